// Written by python -m kdlib.app.export.
export const models = {
 "grid-960": {
  "family": "grid",
  "use": "the default: any photo or video, dark, backlit or over-exposed",
  "licence": "MIT, for any use: trained on light and photos in the public domain or under CC0, CC BY, BSD or Apache licences",
  "sha256": "958fb1c50201342d9d638f1fd7caf56f23f7120617d2b6437f6376a97089adbb",
  "denoise": 1.0,
  "architecture": {
   "body": "separable",
   "width": 8,
   "hidden": 10,
   "side": 32
  },
  "tensors": {
   "chroma": {
    "shape": [
     2
    ],
    "data": "9wTIO8zAtT4="
   },
   "decide.bias": {
    "shape": [
     10
    ],
    "data": "LD3IOqxce70mCxg+yGaRvQVLIT6hAyk+C+JGPjxDRr1T6Zk+R+KPPQ=="
   },
   "decide.weight": {
    "shape": [
     10,
     24
    ],
    "data": "cutsvUVZwb2Sw1g+gq4aPjK7r72ksiu+4VWUvTIYjL5TE0++M+CGvXnaX71ZzIY9u4OZPP56DT68TYs9lFuDPLsHWT2xIoQ+VxyAPc/ShD76yF09KsGOPkJ3Az4wx7u/V0TevSWa+L4wGE8+3iATPxsYTL9ZWxg/pTv6PkOIeD6EI8O+y1WqvuU1D77kDJu9fIGAv8bHOD0g1yi+ZG8AvpcsrD+lYXQ/rbH7PsN+/72Gx7i+ZmYHv1W+lr6c/do+PB09vgJKlb7noYk+sgOtPhgj7r0Anoe8N6xTvcvCzz2h8A2+WHezvbM5ND0x08g9n9QtvUUpQz5prK88vYgLvk39ub0klo09BwZKvhOLGL6IoEq+66YcPrsSgj5ulPU+5xKlvnfAZr6HLPu9c1GnPsIPr74JsWw9kuFmPmBHmL5gO2e+7yOJvm+99j1rrUi95m88PDIZUzzWkhw+FOtrvXMgrz4I720+cEO0PoMBXT4CKsY7eQubPlxhQD4eurm+70DmvXQZR74d0qI+2CErPdfsGr6JkIw9xAtOPu7eSD6nNvc7TdfCPVatyz3lfIK9daAMOtGrO75CQwa+j6x8PiiNCj3WPt69J8hBvFerf70bSDy+7gFdPRRKcb5tjRY/GHpgvhIt5L1msrw9DfhCvdsaqD1Oi+W9bhMUvs+TWb76W9275gKwPIL3Fj2Fk0w+Aa/7vKuQaz0yDmk+Yr2Ovu03H77amEc++A8CPj1ipj5ikY+8Ysd3PlV1wLxOrw++fskhvi5odL1QLZQ98w2MPoXEi77bhQI+8YRwPs7TR76f3bU9YAO4vgbrqj1gRnk9DQpwvVs8Vj4SjZE8Ki66vhxkyz74wZo+GeGUPt4pjT1caE8+UQplPsfFUD2BP7q+rYvwPS/0Nr6cX3A+Z3xZPcdODT1aErQ9U5UKvoo3Vz529kC+LPQ/PYOunj2BB2I+i3RnveaMPj7JUEo9PPDJPQtprL7nzLW+EN9kPSF88b2ZKXu8dXVuvImf/z2F0Bk/WKgxO2f1jb4P5EE+PV40Pa8Md77c+IU+bGS6PgmMcb5z51W9W9j7vSpL8r33R/o9TsPivoBXH7uFixW+zQkWvSLDCj+zsju+gk7PviMQgr5lCAO9ydnwPCeZVz6v5hI+pAcivjmDSr21/9q83+UfPrIWBb/RHGs+2n2qPYXZFr9nC9+98cIyvqaY0zzEIuc9k3QUv86Gij7OpaQ8MEAzv9jipj4VCRo/436tPterBD9U4lY+HLJqvgVPK7/kb1i9"
   },
   "features.conv.bias": {
    "shape": [
     8
    ],
    "data": "DSbnPdzk2r37LEk+QPGYPuCyEL10gxk+3DOKPVB3xjw="
   },
   "features.conv.weight": {
    "shape": [
     8,
     3,
     3,
     3
    ],
    "data": "QtmqvW68Az6LwNK9bjOjvc+7kD0IrGI+2KwDPTzdjD7VfQ4+8CnMvgzWAr9Y/e2+nh8Ov/FH9763J+C+okRSvkN5Dr4tXtW9yF9+PWMs+DtL0A0+oyaTPvG1a70O8Qg+zRTAvWkHML7+YSe8ujI+vvYG/703fVC9xMOjvYx1LD7qD/q9atmuvQlgCr7zeC6+MhWbvc6kMD4wMxA++lPiPar9qD1mt+q9CoTFPWphPr4eBJS9FEVwPIO1AT5Q5ws+VgEevWM6tLwlQVE+lT6APhTdEj7rMaq894SiPnXRwL3FoYw8/u3HvZlhh74Ns5S+w1pgPuSihD0q/0C+i7ipPRaoaj6ZRAM+d2nuPcm7hT4R9cQ+VTG6Pdco+L1O8LO8pRESvMjmS708cOW99s/BPAEck74z2Au/fSJNPY81cr5PTpi+wSFzPtr/zb3hTR+/3H7/PQCMRL5yJ+K+Yq0rvWphrL089QS/rmvGvX/3aT4X+LA+5gvYvRYe5r0H+M69jnoMPlJdij79qhW9Z5hLPUpjgLzBD/u9aYGNPDRzKL5yy72+Bsw4vVkZ8r6BZ96+RyT9PUpAMj6db5I96uNVPm+bS7xsQo8+O2IZPowVCr6hTn68Sl0cNR4VdLsqPl48h1QPPqc1Tj1LjSy9sox7PjtnWb3xctU8yC7uvY/FJr4ofB2+sdedvrI0Or4TIAS+HoO7vgY5eb63+PS9cNBGPa0zHryhWWs9tqwFPizf7z2tqY8+W11xPvhdZT64Ifk9Ab5Yvqp9Mr6fI1g8va8hPHX+6r0oNWK+0kowvn8cK76NINy9QFomPkWESD6GK229bPPqPYUCE75rcnU8Vr/ZveShhb0ivqq7QsYHvjv/FL7KUpy82WuwPVey3Dw4epU9R0MavuU10TrmWxg+7m9EvCIudj5g0C0+GYGive2JQD7Ofkk9tKiBuu5zRT5rtgC+CRBXvRW43L3xhFo9o5WJvbvk0Lx7faI8exT1vdhLrr1HlS6+lt9DvkVBIL40cli+yru5vmiuf75KadS+d9mKvnm8mr4z0SG+dSadveaaST2adHw8DsmlPhFkrD2GATc9hImZPaP5qz6R2Jg98+7PPg9njD5DLpU++HC6Pb3XTDsSIxI+tMbAPVwazD1KhVU+"
   },
   "features.depth1.bias": {
    "shape": [
     8
    ],
    "data": "M45KPmrdfr49xoU+HM7IPEix470OUUc+ARlSvu5i4j0="
   },
   "features.depth1.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "M3dpvkUBgD5CdhK+G8APPq2CLj4r7YA+LC0ZPkFk7j6hAXY+VvySPpeDLz5cSXq+Gd0IPlZLi77hpy6+rg+tPfGjuj1uRXE+CZzhvu8w/L4+ZJ++s2umvhoCrbw5tvO+7XkfPsPHwDwTjJC8ipd7Puvs2T4l4ey9mlIWPUc9ybzzqcW+Kw6aPuTZE77lebi+V/W6vWCqgD7wF4Y+pi2wPr7yPj7oMjC8/CKSPFqaXj5To9E+AmyBPNMMZ768kTq+2rqcvhXmabziOSy+5l+5vo4t2j2dLoS+SVESvdr3WD3iSS+90wJ5virqq75oRV4+WBfZu/rZez4RZWC+E1eqPjDTOz5yp7E+DewIvCeKsj5ElNw+OonUPbr4sz39ZVI9"
   },
   "features.depth2.bias": {
    "shape": [
     8
    ],
    "data": "0pwguzCztr77rJM+uBsyPodZmj6Vx1U+SLuOvlaP0j4="
   },
   "features.depth2.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "QxxRPqWFrT621fs9MS8DP4YmUT/luQY+dx5zPihLAD+jt4g+GwWTPve2AT7gmCM+2MvuveqxIz7szhw9TfKivfBOQL4mbj++D2e7PbnRuT6CWJk+YSbZPWR2r71utaM+85KZPjOwdD5gRVw8P3ZEPvByVj69C/G9koUwPtmspj6p9mg9cWI2PeI2p71Xjgs+5FFLvrh9Xr4lE7++N5A3vm4T9b5mf4K+zZcYPQXYBD68Prs9VKczPmFH9j6pejo/ooC/Pu7XRz3HT64+IQuEPSgtgT4qD9c+S8CLvivbVT110VQ++JhuPDAReL7DNSi+KpLgPfIrkL5dG/s908k3v/2d7b7J0iG/IxervgB4VL5CdSy/AZZDvvECNL8uYwG/"
   },
   "features.point1.bias": {
    "shape": [
     8
    ],
    "data": "NsvZvvaoGr4aLLm9hUVRPlP8Pb5k8KG9w/50vjEGBb0="
   },
   "features.point1.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "S00GPtdThr7jv+I9jXtOPkDbNT5Rhok+LiGyvpybC76fMUa9fS4vvgohV73tReA+DbHIvbazAb2PnRU+uo2yvdiBmj6+f4w9DEbGPnpSdr4DmeE+VgQtPndgyD0vMOY8uonnPZ7B3r1kOsO+MeTcvceYpT4zkA8/5FmevnalkT7h6vY9Y5q5Pl2WBj+qxqo8W4bvvrDsoT786t09JyXhvcXo0jxCxqM+eJYovTO2NT9SE36+DwFVPPUJ/L18QL4+TxzJPSTD0j1gn9m9+tCYPp1O875/JVU+/o0lvrTpaj4e3by93ou0vuuPkLsOqBc9Ut9fPgewBD+36go+J+ILvg=="
   },
   "features.point2.bias": {
    "shape": [
     8
    ],
    "data": "tWgEPTbe570If0k+8oNNvu+XSL5C4US947iuPjlDPb4="
   },
   "features.point2.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "0o6EPSEH8z3gfHy+ObUVvkzPAr8amwC/d7KJPBNZ5L56x+49n1hsPnllJ75VOtq+vCiEvo4u1r4MdYM+oIDuPmJzLL3Q68e9NnRbPiefjL69gpa+Bm7QPY9iRr7/MzU+/klDvi51EL6dNeq9b2bjPZ0Oo73nFtc+30BSPmn0UD7gJqO+dSwpvqkNQD6NXgk9feYpPnKAtL4pKY4+x3qjvt71Bb/QvW2+XHuZPjaQsz5vYEi+pGb+PtwxNj51jl8+lHLhPnlPCr4BZaY9Do8VPo7H/byBBKY+IBCZvV1SuT5Snge/+ngevuSsej7GvQg+JcO0vlKhWL2g71M+m4wbPQ=="
   },
   "floor": {
    "shape": [
     1
    ],
    "data": "+CRzPw=="
   },
   "globals.bias": {
    "shape": [
     8
    ],
    "data": "XZ5VPnKqlr5SS5w+wcSRPusOrz1yjvA9KfmTPrmO07w="
   },
   "globals.weight": {
    "shape": [
     8,
     10
    ],
    "data": "xI2hPgFOm76jLZC+YchGPn5LBz1vXpU8DzgzvoTBB74/Q729jqWdvqaMhjyi9WQ9xEmMuUQJ0T25jJk+CRysPQzz7L0/MAW+URNPvhpbYL4LqYI+7ar7PcHnaD7/rom+ZrETP+cBn77s5c+95We1PqlU1z6Amqe9LhePPDmGzD7i4yW+6hQvviSUpD4pAVi+ZEi0O7hzcT6krV2+QpMkP3BIoD7vbww/h/e+PjGbIL4pe84+u3WKviiktb0xhF69eMcNPjz6Pz3lGcM+ah5XPl9vuT6bJy++gtyUPhwnNr70E7a+jjagPiA3CD7ijCy9jJzUvjXgiz4FmXG+Pr2lPslM5b1o5Iw+zCeIPq5tk75M+2o99cMmP1R1ir4yJJE+QgN2PYev/z6hzyW+F3TpvLkSzD52V8i+jcpQPnJAXD4="
   },
   "knots.bias": {
    "shape": [
     8
    ],
    "data": "rTDEv4HtwL9bf2++Z+kQPgkaPT5HSAQ+vgZAPFTSc70="
   },
   "knots.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "AAAAAAAAAABzx9O+W8SlPpZohz9zqmG+lyAJPiWV8z4AAAAAAAAAACHSh77fApA+orYUP7qpIb7ZaQM+nBHePgAAAAAAAAAAcsGUvgRxRT70w+a9uSVQvuAJPT5K86Y+AAAAAAAAAADfDIW+YaDNPcIfLL6+STC+/2EqPpGvfD4AAAAAAAAAAHElIL7Eq049aG5DvkYDLL752Rk+ZRtGPgAAAAAAAAAAwjd+vcYlujwXaCC+hE4Xvmr+Aj6zuuQ9AAAAAAAAAADGZo+9jQKyvVW4GL4MblO9NsJ7PV73RT4AAAAAAAAAAMNs57yaX0+9iUSqvZsJMr3z5Z275+EXPg=="
   },
   "saturate.bias": {
    "shape": [
     1
    ],
    "data": "lwpcvA=="
   },
   "saturate.weight": {
    "shape": [
     1,
     10
    ],
    "data": "h3ENu+zwoL0bIXi8oRjVu6I6FD580du90SttPKZyCbvJy1M87KCKvg=="
   },
   "smoothing.log_tolerance": {
    "shape": [
     4,
     2
    ],
    "data": "usc1QBCnf0B/J9o++rULQPHRhj9u0QtAYQY9QHVDyD8="
   }
  }
 },
 "student-565-free": {
  "family": "zero-dce",
  "use": "as student-565, with a licence for any use",
  "licence": "MIT, for any use: trained on light and photos in the public domain or under CC0, CC BY, BSD or Apache licences",
  "sha256": "c6ac261196594b85ce8063fd4c85dff0d1347bc9de0323c179ec79d577baa5c4",
  "denoise": 0.0,
  "architecture": {
   "width": 4,
   "depth": 7,
   "iterations": 8,
   "separable": true,
   "shared_map": true,
   "skips": true,
   "scale_factor": 12,
   "network_side": 32,
   "curve_activation": "tanh"
  },
  "tensors": {
   "e_conv1.depth_conv.bias": {
    "shape": [
     3
    ],
    "data": "IlGxvrgVLb7yDt68"
   },
   "e_conv1.depth_conv.weight": {
    "shape": [
     3,
     1,
     3,
     3
    ],
    "data": "jTQPPvdAaz6oAQe90VymusuVBr3BC1c+h/bQPbEMgz4kuxY+pf61PbIFDL1MCiK9lhEDvl6vwb3CHQq9QQ+pvKxaQzwCkoq8hny4vTmUJz3OSi88iM08PfDdrrxjSaU91kWcvFfbIz5WwQU+"
   },
   "e_conv1.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "5yBlPyBjh8B5HoY/YBDgPw=="
   },
   "e_conv1.point_conv.weight": {
    "shape": [
     4,
     3,
     1,
     1
    ],
    "data": "KakTwMPjm0AoiA/Aq4CrwAGlAcEHWzDBTDo/wR55jEEzXhdB+ISbQJMqHj8v95jA"
   },
   "e_conv2.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "HC1ePvdTuL4vw8Q8NjivvQ=="
   },
   "e_conv2.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "djWSPf5Xrb0n6YO8a0KbvYfTI74YdiQ+zxRFPgBOxr3IhXM+TmkGvk4dDT56I02+CjEdvlPttL0MTkg+WcYMPqOgLb7yxcc9OS3OOzennr5E8Sy+f3KuPf0Uwr37sZw9dMrAva3C/r3lQuk9l9CJPuKV0z7d8Do+Jv0WPo4RJbxDNLK96mkAvTwggr3UizG8"
   },
   "e_conv2.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "LgASvyFCM79b5zU/NTCrvQ=="
   },
   "e_conv2.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "88GSv5aVA8DJBZA/nKZDwCOpqD857OE//eshQNvphD9/3hbA0U3bv2skEz/NFwY/27ApwE6Y1L9YLCVAyEWyPw=="
   },
   "e_conv3.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "cxKVPoImUL7GQny+56CAvg=="
   },
   "e_conv3.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "WLkKv/QtA783DQO/FDBsPUi/3bzBc4E+WOqmvnoIuj1Firm9BSvLvM6QG72+vzg9ruTWPUi+Fz7CKP09eiDkuy/2gL2sSpG8VEd2vnsYRL4IX6g7Rd6IvhWBZr5BqhG+hHUZvFyaG70hera9duSOPQyHSD19pZu9f9ZYPWCDEr5BfEK9f8yaO3iYID0tRIc9"
   },
   "e_conv3.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "cZa/v5RXrz3UYCU/1ykQvw=="
   },
   "e_conv3.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "Lbf2PwiTRr/mNai/RdoMwNMu1L/JY8u/dFoTvkBEQD/KWE0/cB+Mv8QHJz8ZqyC/MY2pvzi5HsBoKrW/O5w/vw=="
   },
   "e_conv4.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "fxZZvv+Der4ZEQe+elzePg=="
   },
   "e_conv4.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "VkMRvibiQT4w5fO+h2qUvp98az41/4C+M6sDPuOmkD69rqW91tplPXdfcDv57a89rRmRPkpGQr6lSmQ+U3Q8vuM9yz185Ii9Uy5FPuuCRr7HzZi+HVASPgpduL7W6Yw+wtj9PnSFFz5674+9bkRPvWFoNL7t+5O+UFbGvQ1Ldz52GD6+yK1fPnRTiT6NW5k+"
   },
   "e_conv4.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "4Vw7PjDLfj1XtQ6/heUqPg=="
   },
   "e_conv4.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "zP25v48CT0Cli9I/5ghmPh6bR77eoArAXfnOPy4SEMCzvsO+G25EP2ChGsAe2GDALrlyPwg05L+ZyQC/twgJQA=="
   },
   "e_conv5.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "U9eBPngVA74FBbC+kSHPO0s+PL1J2hU+iKe0vVcCV74="
   },
   "e_conv5.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "r57nPacaMD7nWRq9HCZbvkYIir6gzPq9FL68PaaPaj7teR8+PKXsvfgd8D1k6649tYf+POocWz42/sU+JUsmPmi6dr1OfI0+ia/IPTRPmL6vf7s+ya5jvjs0pT0Udj4+TReWvqUPIL4pW3I+oaORvpXCm77ChA29PvOAvqKDkj7wWuQ8n0N1vi1bbb2J1Oo+Q0A7Pku0uD31+IU+9mWavdSLbb7IJLI8uyTbPu0VKz3c4QY+7v3tvFdOWj2fW+U+tHZovvzrZ75ocWw9MqL1vTH9gj6KnkA+1WSvveIRhL6/+qC+oON4PVnYEr6JilQ9amvBvuJBq75kSbG+zpWmOrVGU75PCXa+Od9DPkxkBD7aGgO92JpHvrM5vT0KNeC+"
   },
   "e_conv5.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "e3vQvh7gRr47ASU/AmBoPw=="
   },
   "e_conv5.point_conv.weight": {
    "shape": [
     4,
     8,
     1,
     1
    ],
    "data": "3+3IPql0sz+Zy5A/NxU5vn+EC8Cf8ES/5Eh+P8WLbb8iN74/7vEyQKZtE8DfPeO+u2rUP8/Sjj4Q9Ps++TtFPxuOnL+xRpK8Tb2kPzzWwT+q/KY/eVQBPS83wj/arFq/pWCqv+Ndj7951NQ/xAskP8bwib92yDs+HwR/P0abzT8="
   },
   "e_conv6.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "z7GNvvLjvb1PtWC98sh2PoChVLvkLJU+rx7fPUm3ir4="
   },
   "e_conv6.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "P9XSPiPe0z4JDn8+01L9PmDifT4fWOg+sgoqvqq2Pz0mRZa9pY4JPhG+Yz3Zk6M+MBAtvMGGdz4VgSI95/NUPlA7p72foUw+lOqkvhLwxb6yVge+S8O/PREyMj06l40+LJkaPn++v74kYkW+LK9xPrW5JD14MoE+uA60PcgYVD5LBCC9ATFRvRKiuT6mf3k+P+EKPoqBLL5Y/0+9Hq8Du1YqG74982E99KPePgC34rwR6y29Tw07PsRQID394q8+C2Akvhip4b0Hcl6+i+2yvlPESr66boE+vGnAPpgukD0JpcO+cQCJPg16uz16EIe+lNgVvv2ffD31Aqm+CcewvioTHT58SC0+Nh3Vvd8LGT512Qu++dRiPK71jj6zX5M8"
   },
   "e_conv6.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "/UPMPVhMWz8HjL++4TsUwA=="
   },
   "e_conv6.point_conv.weight": {
    "shape": [
     4,
     8,
     1,
     1
    ],
    "data": "VKK+PhWAYj8pSIU/Y/PIv6Xm+L7TTR+/SawxvyTIjD8r8pu/zX0DP/0gmz/GYMC9Mdo4v7s6Dr/AF+8+D+mfv327gj/H3oW/7ByAv5ay3r/NSn2+GL/vPmTCdr8h6LQ/mHA1v6iqMD/Y05o+eVDqvwuXuj/Jy1c+c/TfPzOwrz8="
   },
   "e_conv7.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "VPbbPuDpvD6bWci9bmqdvsnuRr5+OK09QRbAuZbsK74="
   },
   "e_conv7.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "BxgtvcGq+rx5bBC9xz0rvZl9kD05Efa78UVgvQ5blD1U59a79mNCvlv/Y74d18G9OsVSPfhgfD7cxso9Q72Hvf5PBT4DapW+fTbFvczRdz5cu2+9K25wPvUp4D38sio92mYdvpNekD0s9X2+5A8zPpM6nz1PqIk9uAeAPN4Jkb0pmR28xIUBuxx39j0O6pS9C3VRPgRkk73kZmS+yaY/vsdfPj54u1E+b8mavgUWLz5xd9I9gLEqPZbQVz6ruRG9ir7jPRd/gD7Zt+o9qQJWPcnfyTwbAEI+eVpDveEmU73sZpc9e9pAPWintr30bS48+dyQPZ/BmbyQriY9KuZNvDm4BD7PxiS+m7LQvS2Yqr1Sn3M+iPIMvBNPfz0fe6m9"
   },
   "e_conv7.point_conv.bias": {
    "shape": [
     3
    ],
    "data": "ZmDBvUEeOb7gTVC+"
   },
   "e_conv7.point_conv.weight": {
    "shape": [
     3,
     8,
     1,
     1
    ],
    "data": "DYkPvt9XrL3rNr+8IIMFPDrERz21zt29MZ28OyElsz5xPwm+JRoOvlOpqrz99Kc76tQvvXFzyL0Zb2I9ldwjvU9P0b3KNO69BX6AvGa02DohKnc+wc6WvY4ww70RZ3K9"
   }
  }
 },
 "student-565": {
  "family": "zero-dce",
  "use": "backlit scenes, dark corners, and video; also brightens daylight",
  "licence": "non-commercial: trained on SICE part 1 (CC BY-NC 4.0, academic use)",
  "sha256": "9550f43a21a513fdfc29eb973eed760c39c644346ddd8a53f1acd43d27baef13",
  "denoise": 0.0,
  "architecture": {
   "width": 4,
   "depth": 7,
   "iterations": 8,
   "separable": true,
   "shared_map": true,
   "skips": true,
   "scale_factor": 12,
   "network_side": 32,
   "curve_activation": "tanh"
  },
  "tensors": {
   "e_conv1.depth_conv.bias": {
    "shape": [
     3
    ],
    "data": "nq+ovtM4Or4UP+W9"
   },
   "e_conv1.depth_conv.weight": {
    "shape": [
     3,
     1,
     3,
     3
    ],
    "data": "EvjCPDRDSD5xmoW8ntM0PSjZaDyqKow+ZtsTPjAwgD7tsw8+xVMSvslQUb6wehm+F7movs9hJr6XxC2+vbRSvgGk1b0MHCW+otirvAcMBD5MIAM+ohAcPgY0xzxA5lY9O7JfvGPd3j0ro4E8"
   },
   "e_conv1.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "wpugPzmKesBw/mM/OvQAQA=="
   },
   "e_conv1.point_conv.weight": {
    "shape": [
     4,
     3,
     1,
     1
    ],
    "data": "vSMzwFb1lkD7RhDAGTmDwJuN8cA9IybB1VEiwTyGd0Ey5fxAPwinQMT5nz5QU3bA"
   },
   "e_conv2.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "UKG4PqB3a764Eh88baYpvg=="
   },
   "e_conv2.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "CoerPncEGT4oXnI9RZjxvSMqI701Uoo+eUVzPm4xEDzxP7k+F7E0vu3F3Tv5vQC+W3sOvet40bsj7mU+A6bgu71ePL5ksJ692PfbPUqvML7mKbW9y2i0PRvS6z29ZTg+s3envVcZH703puw8HQ69PcIbiz7HJAI/Eb3hvT6+lL7FTRc7QSpuvaB8pL2MRKk+"
   },
   "e_conv2.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "RaPVvurADb/cB+Q+p5Q+PQ=="
   },
   "e_conv2.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "teNivx4fxL9+3aE/AKQxwJQYlD+VQ7g/yG7jP5ixoD0VNA3AAuWXv6drKj+Y5CU/730GwGRj1r859BtAWBTUPw=="
   },
   "e_conv3.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "+FO4PnOBMb6BVI6+WRuKvg=="
   },
   "e_conv3.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "05+KvlQOED1xD7u9/KaSPSk5DT/xTQs//QUIvyQX4L0PqxO+vGU5vrfzoj37XuE+YCCLvfkztD10qLE9UpAuOxKWQr7+48G935VRvkh7er3aqCg8eMBAvjRYIr4k3CK+225kOU2cnb1zDyI9asqDvehXMz2QjZ6+EEhpvV+Ro73G3Ym9ayLKPVcPPz50yAY+"
   },
   "e_conv3.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "wpi5v6wQRb14VzI/F5gavw=="
   },
   "e_conv3.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "VwkFQGcAgb8MPLu/jY/sv0lC9r8TjEa/5QHBvlySmD9HSTI/SR+JvytePD/1e0G/kc7ev3wrAsBMe72/m93Gvw=="
   },
   "e_conv4.depth_conv.bias": {
    "shape": [
     4
    ],
    "data": "SujovSMKrb5ssR2+IB/QPg=="
   },
   "e_conv4.depth_conv.weight": {
    "shape": [
     4,
     1,
     3,
     3
    ],
    "data": "0murPXlu2T2S2q++YVLQvcpEFz56pje+I1iWPWA8Pz2xNU2+UtADPCiV4LxlP4o9HIWnPoXiNb5SJJo+iwOvvg52Yj2CKL895H3tPS9w4DwTZow9qmFKOokarL4Gh6o+1Z8HP5DKTT44R9S9yFZxvjrbm74vBYw81BjgvMy+WD4GOzm9e9wrvtfc7LzzG2U+"
   },
   "e_conv4.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "EvjkPTFGmT4wp6i9RBOHPg=="
   },
   "e_conv4.point_conv.weight": {
    "shape": [
     4,
     4,
     1,
     1
    ],
    "data": "Xk+fv7mCV0BV1uU/EK37PZWa2z4shR7A9Tm7P3jhLsDz5oM+jKABPznoPL/woGrAsa2sP4Ci/b+SAwU/n1IGQA=="
   },
   "e_conv5.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "BFEhPgRYXL5sbHK+eJWOu2arAr59JRU97CuWvM6zKL4="
   },
   "e_conv5.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "HUmJPZwPBr146o0+xxvwvQxXpb4q8TU9p586PW04uj0Pv5s+yF9KveF19j1A+5A6bcmTPT6UkT0lVV4+Zes9PgR/gLuYOro+z5ENPpwfVb4yigw+dSfBvgiIWLxXwPO9HU9Kvk6O7r1ybAY+TtgsPh3qY7y5VkI8daklvvEMAj4ymzq+9pKwvSDvL72jRro+f4y+Pah5Fz6zEUA+mtxWvsUfhL61x9q7e37XPgVIib32EAw9HJUHv//a4r41psI8Dt3tvvVExL4ul6c+LIukvfqKhD43Rzo/7A4avp9evr43BZ++Zyc0uhd5Gb4odhs+lGXEvHFGUD6heOy6XAinPsYqTb6hkKe8EJPGPvgLgr3yvpq9NUNYvqqpU706aqa+"
   },
   "e_conv5.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "lTu1vuu3o743Nhg/do+dPw=="
   },
   "e_conv5.point_conv.weight": {
    "shape": [
     4,
     8,
     1,
     1
    ],
    "data": "7akAP7H0sD/UIZk/ZYRrvmxJDsBVlES/O/WOP0KNgL+XMtY/HZk5QEexBsChICA+j2sVQPjirb0v+J48eds6Pi59nr89a2k++qO7P2fyrD/2br0+aAOAP6QZKz8XAZS/jk9zvw14u7+RmrU/0fY5P0mYbb9rSE++oKt1PyGI0j8="
   },
   "e_conv6.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "gMNsvpmHE76799C9MphRPtVuFT29060+1e2bPVRwbb4="
   },
   "e_conv6.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "dCC7PmUZPT4phdQ++PCCPpcLyL37KOM9S07Dviw1pj4kaBg+Bk7OPonP3L0naQ68KUaeuXPeAj0bgeW9kZg6PvjZqb2ebeI+eZiqvuhgTr7T3eS9plcpPhA3lj6kEZU+tjXOPf2Sd75px6C+MSigPhYzlb1faIU+0zEJPTdw4bx4Pz694huyPZl/qz760x0/oFUgPnrrNT0Qo6g9Cg7WPFGFHr6xeI688FLcPYpelbz/hrg9MbgbPvm4gDzoP64+Qw4Hvh6J9rwc17O9pYDuvk2sYr6XdZE+Tr8lPPVvcj5tidE9taVZPooeKj43+YU+mUzJPRXkvz6U8yq9FXeTvmmazj2DKhq9vz7/vbk/ozz3gMK+YqFSvnqxAD5DBV+9"
   },
   "e_conv6.point_conv.bias": {
    "shape": [
     4
    ],
    "data": "PaAiPuYNZD+KxIq+wtoZwA=="
   },
   "e_conv6.point_conv.weight": {
    "shape": [
     4,
     8,
     1,
     1
    ],
    "data": "XliwPlastz7Pn68/QLzUv0YZKr9D9AG/xTVov75fiz/IZJi/yX0fPwNMoj9iVjq+enZcv1lDHL/EZOI+yyOdvyXEUT8oS5O/eLKbv4XLur8EYN6+wK04P/oms78Qtqw/ffEgv/UCrj1pspM++0fov8Uloj/3np8+eZzGP8c/wj8="
   },
   "e_conv7.depth_conv.bias": {
    "shape": [
     8
    ],
    "data": "Dz/APkfghj7Xmy+7BZfcvl10W745FnA9uXQ0u5gtOL4="
   },
   "e_conv7.depth_conv.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "Vw1RvQ92Cr0r1pO9iXPLOn4SyD0zP/M85RsAvl4zQzyk/Uq9QragvafkSb0mQJw859d0vYc1XzxE1xG+2K/vvYZpRD39Tm68TYoDvj2yHz4jFRa9UtVVPmRuQb5+29O8PSH2vZdP3j0miww9XAN9PSkRmT3bkjA9NzGFvKqHGL2akjs82AA/PJO5OT4u5B08uJZhPnr+Lb7tBZq+qZZGvvatID6glGM+ycuXviZ1rz1QD7M9M6ycPfJ8MT7z98u8Fy7nPWQIYz6Dw749Za8rPUIqTT0/Nhk+pHShvXk3371AgV09T4OKPaqwDr6xEk67l9vLPatzUL35yQg9qw76O3EQLTyphAC+AigfvF6aA71M/z4+++nzPCPclzxFjIa9"
   },
   "e_conv7.point_conv.bias": {
    "shape": [
     3
    ],
    "data": "pKv0vcQpVr7OuGS+"
   },
   "e_conv7.point_conv.weight": {
    "shape": [
     3,
     8,
     1,
     1
    ],
    "data": "pLKMvfChFLxbhfK8uudXPJUqhj1Qiqi9a5u2PCFcvj7N84m9S7ELvIAKsjzilmI8Is0XvB0Lqb1/f+Q9olUnvErnZL1ekq671G/LO+ZiKzyi/4E+bs2PvbOPJL7XNo29"
   }
  }
 }
};
export const constants = {
 "grid": {
  "knots": [
   0.0,
   0.02,
   0.05,
   0.11,
   0.22,
   0.4,
   0.66,
   1.0
  ],
  "histogramKnots": [
   0.0,
   0.02,
   0.05,
   0.11,
   0.22,
   0.4,
   0.66,
   1.0
  ],
  "mostGain": 3.0,
  "mostChroma": 0.5,
  "mostLossOfWhite": 0.15,
  "floor": 0.015625,
  "leastDivisor": 0.001,
  "leastSignal": 1e-06,
  "taps": [
   {
    "step": 1,
    "diagonal": false,
    "colourOnly": false
   },
   {
    "step": 1,
    "diagonal": true,
    "colourOnly": false
   },
   {
    "step": 2,
    "diagonal": false,
    "colourOnly": false
   },
   {
    "step": 4,
    "diagonal": false,
    "colourOnly": true
   }
  ]
 },
 "lifted": {
  "rounds": 3,
  "tolerances": [
   7.0,
   18.0,
   30.0
  ],
  "narrows": [
   2.0,
   1.5
  ],
  "diagonal": 0.5
 },
 "noise": {
  "least": 0.18,
  "most": 1.5,
  "block": 8,
  "border": 2,
  "blocks": 48,
  "leastTolerated": 0.001
 },
 "maxNetworkSide": 1024
};
