// Written by python -m kdlib.app.page_models.
export const models = {
 "grid-960": {
  "family": "grid",
  "use": "the default: any photo or video, dark, backlit or over-exposed",
  "licence": "MIT, for any use: trained on light and photos in the public domain or under CC0, CC BY, BSD or Apache licences",
  "sha256": "0284a84a995cd5687bc9e226851fc5ec882dde247c85578a620fc1ada33bee94",
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
    "data": "8Ur9PLBghj4="
   },
   "decide.bias": {
    "shape": [
     10
    ],
    "data": "b3C2vVN3OL1nDAY+n3BlvAp8/D0i1Wk+oHiAPnbyo706oaQ+DsK1PA=="
   },
   "decide.weight": {
    "shape": [
     10,
     24
    ],
    "data": "MA88vfqGE7733m8+L1qMPg0hBL4KkQu+TDawvc59Iz2djDC+B8dqvvuDQj3iRA0+awNIvpK2tj1DbKo92iPLPVYbJ71753K7/8UsvldXGT7pBdQ8ZS5qPhXFiz3n7sW/DYYZvp9s1b6lMaM+3zvwPnYxC78Kqgc/ZgT3PsEwWT43rce+Sb6Evinspr5jBCy91igHv23nHD4umem9ZjsXvlKupD8WBTg/wOTkPi7wur2BS+S9SRwOvwITv74HOiM+p+NEvmPOn77KDZ0+9wXLPtA9w71wqwO8fFtkvd1dEj6vtCa+dDRtvt1NAj79jvE9bKE8vZfZMj6uZBM9eA5tvSsoSL4eZgK9sEBzvrLX7L0fY0a+0EMuPrkHtT5GBOM+GKCovg/dWb49Aw6+mJCVPus8p74RiU49KPmCPqMZgL4omG6++14hvu9hWD0eD+C8JIvfPXwSlz39RUI+MzIpvXGe0D7fA6I+yAbgPgr9pj6UI9Y9KQ+IPlglDz5NlMG+3xL5vdT2Wb4QTrc+p8e2PY3BIL61H7Y9l+lFPu0gLj6rA7C8i0M7vTrGCj6lwDi9O36avjiySr4woAG+zUd0Pqwfmr0WSBm+XdgkviPSAL44A2q+2aTCPQwKNL6pUQA/rQRkvjD3270/+fs8FM/VvSJHDz2fqwO+zyn6vWHtbb5Ae5y8OLDuPV7m/byYL0g+1ufovHIMuD1rTnI+JdOevs1Vjb3bM44+insxPtiP5j5UIu89s1hbPhDZi71vie+9yD0wvrPMPr1gc5Q9h8N1PuDNgb5rofg9/0qIPg4JJ75k2509UTt5vgJ/EzyziJw9V8VZPeX7iD4kQUg9SLC4vqYF5z6bQ8U+xj25PnKLCz5zjpk++WRWPvAljjtD9da+7k3wPc7QTr4qonE+aGa3Pe2EbLwgasg9+KQbvpsZET6l7Vq+O73EvZ6o6j3FvVs+I84/vniWDT78pwQ9GZlQPR8FzL5Q1sq+KeAFPWIxUr762j69RSQVuxv3Rz7TmR8/4TGkPEUilr5o9W0+uISIPdIhKr7kOGE+FxKuPshLzr0TQKi9pWCVvm4fUT0dPE0+XKmGvqS7JT3745K9F3Z5PolWJz5pMZe+Je+GvtlqAL507BG8Sq/bvBPUlD5a7ng+iKohvvYbmL0bJ9I+RA7YPTTKw75/HYw+t9qSPQoRJT6eKXi8f4K+OfzSrD3pzoo9S2WMvhzPlT6/aR279pTdvWaq9D4qOkE/KivnPo67cT5BKy++KmrdvrYX277G7BE/"
   },
   "features.conv.bias": {
    "shape": [
     8
    ],
    "data": "EHy9PFNSTb7VYpA+z9lNP7mDFjt8nY8+2I2MPWe34jw="
   },
   "features.conv.weight": {
    "shape": [
     8,
     3,
     3,
     3
    ],
    "data": "+BwlPRJ7ej4+mxY94lhovOVZBz5knpo+WKX6Pb+Ovj6XNoE+C3nQvj38Ar+d9QG/i4YIvw7w374jntG+IfUHvnknJr2Yzpc7Cfftuy0zgL1T6609JrxFPjN6Cb5ijhQ9Mz1BvvS1ib6IBQe+VTGkveAVr7wwfkc98UnTPNtMiD5yZ7O8H/hSPGODB71hKpy9DGM8viHS0T2zd4E7/bQsPfoeubw01WO9d3kFuUbm+b3DDYW9XJ7wvDJ4OD5VkEM+zbpFvc4Twzuqi7I9IEBSPsizhDxKckq9nXlQPlG5tb3lA249aOLdvUvk/L07MAO+uoH4PQkTJD2W9ju+PdFYPro3hz5eRS0+nZ9JPhu8gD5b2JY+e7uGPvy1XL1SDRO9F9ywPD6DhDqHR5U8/SOAuuDuM75XoaS+pzKdvZwJYr6zfle+z8GJPqYPR75ovwO/M5pjPig5lr7+wZa+7NWgves7h77T0fK+IL51Pv3Lcj4FRzI+OveRPnL9C76nBSi+sGXEPntmeD4t2ZC9ZIR6vvVSf75O822+KYG+vjQX+75P/A+/iZv7vtdsH78svwe/DjIPPoI9TD50oMw9zXIqPmpKP71SUoU+f+t/PV1vVL6LNKG9Hdu0PSrEuz3699g9KHVGPngM8D3pTGU8bIiQPtxRKryTVow9frUOvgLFML7JCiy+zkuWvg6qJr47F9+9E/ajvszJTb4Hg5q9deViPR1Tgbw7stk9Ic8ePkMEBz4YG40+jTMcPlZeCD4W7Zk9r0CSvgkHa751eJ+8jvSgvTNebb7JvIi+SuOCvhIfkL6SQRW+x9SWPaPhhj2IJVm+GLd5PVXgTr6rNMS9AAYNvg/ZtL2k8dq9uzYRvl/nCb7u3Y07pBZlPB6EkL34Aws9CaYlvhxnKb0e7f89KQOtvfxnLD5fSXI98HAwvsY25z0Jn9S8KLy0vaw2FT6ubS6+QoXfPEOdG72U2BA+JzJBPX4rzj23qJQ9RYxjvcpuCr1hwxW+pzYovg5v8r0aXyq+N2uxvtTEV74GYb++XAybviopob4LiyC+9oeOvksyNb5U7CW+VP2YvbyAtb5QP6y+6ISfvvToob1RpY2+zlTgPqXToz7D4ZE+CTmLPkmpWD46h5I+NfdyPs4ggz5y25U+"
   },
   "features.depth1.bias": {
    "shape": [
     8
    ],
    "data": "dQVvPj5Ysr4nIcA+ShzFO62acb3xlpE+oWNWvi3RRz0="
   },
   "features.depth1.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "0yAvvum/rT42mnI8fqcEPuyBNj5xNaU+w3ghPmdv8z6aibc+IOxOPiH62z18nWa+1yJbPTf/lr5iyCC+Ln2DOgD5eDzSAiw+arCCvaWGvb7MDBW+uJBtvjC/PL2op+e++OPyPSbf871zP6i9RD6xPlxivz7JeNK8flIGPmBhprzczaC+KfmrPsFFj75PEBK/A/iuvXdrlD4Ht6E+v4ioPmBLYT5yGo88Vz83veY/PD7GXMM++Ry+vVvhg765Vy2+vt4cvh1wY7wN0C2+yEKUvm+O3DxIWbG+Kf5fvdy3kz2hhzy8fxiFvviinb6frWo+FacxO2ZddT5ydRO+TGuiPnx1Mj69rpA+lLiuu43/tT7yXMQ+hdhUPjUpVz76BAA+"
   },
   "features.depth2.bias": {
    "shape": [
     8
    ],
    "data": "y3ehvP7Pmb7W9ss+uJZ1PjZzqD51Fm4+JleovnPZmT4="
   },
   "features.depth2.weight": {
    "shape": [
     8,
     1,
     3,
     3
    ],
    "data": "wIdcPvqpYz7YS34+0O5FPjGfbD4e4BK9tFW6PdfCcD7yehk+lYWqPoTyMD7KFFQ+9MruvQaxIz4Izhw9afGivQxOQL5CbT++fRBCPW7q+j4QhbY+Th2Hvn79fb4rNoU94DKVPuv9fD43+cU97bj0PTRsmj7k+728FMKSPTWViT77rt29/lQDPt7ywb2JKiK9F3w1vvRzTL5csU6+razuvs7KPL7muBw95KobvtTS0T7e8MA+ZmjvvUFksT6CIzo/t76iPqUGDD0KGt0+ofpRvBV1kj7M0PA+zujpvShQuT58ljM/EFOkvdEOHL446Ek+ZvN0Phzag71jTQE/gsLJvtMz+b7F7Wa/rGopPpFG2D7W8AC/XRLzPRYMzb2vOcW+"
   },
   "features.point1.bias": {
    "shape": [
     8
    ],
    "data": "VNahvjVifb5jUs+9HBtcPpBP471p1Im+f3pSviDCrTs="
   },
   "features.point1.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "jQ+fu/NShr7/+nA9dewLPKOCRD282ae9BVGUvuDU6r0heqW9yQQEvr1/vT7nUkw+Gc7wvpxAZL0wnRU+ogyIvfBxUz5EFs48qkyFPgKjEr+gRgY/WepHvZxcaz6TTzM+LPB6PrFjG75Vr7m+quHovuPOAz5cREA/vSRlvj+Igj4nwiI+UiqtPi1zMD+r7a49/BSJPr3G3r53i5Q+6Sm8PYfejL56ep0+MJT3vriguz6/yU2+6Kfqu3Eez73BgMM+Jrxivd/LGz519My+PdOkPj1Vk7/WWIE+fCJovsDtaj5vMWi9JH6yvsdrSL/ewT6+O8gUPvnbuT4A8JA+rAyjvQ=="
   },
   "features.point2.bias": {
    "shape": [
     8
    ],
    "data": "mNwdPPviIr5Fezw+K3eHvuWklr6zGHO9gHzCPiK0pr0="
   },
   "features.point2.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "WGB7PVaYKz4NDpW+Ja0Xvu2WAr/n8vS+whPzvpEU1L73l6s9mjxCPsaXOr4j4uq+6VVjvp0DqL5LDz8+EoiVPtufbj5r/CK9aE6OPnEYSr4Mi7S+uMEQPt0E+r5C7RQ+jcZXvn84M77IAVq+32PnPVNjX72kS+U+JWmfPeBvcj5IvJE88MDfvVo5ub3oA4C+tC7JPbxc7r79nmY/LmZBvkIPhL6YxkO+oW/FPhg1xD5E/xu+TmK7PphcMz85ukc+9bSYPkQDQ77BJxA+D6X9PbURd7sJXqg+gRCZPrKToT5YCci9suIGvuZUKD5V3ps9WTLMviiGhrxMHR+9qHrsOQ=="
   },
   "floor": {
    "shape": [
     1
    ],
    "data": "LdVyPw=="
   },
   "globals.bias": {
    "shape": [
     8
    ],
    "data": "eZ1VPo6plr4n7KE++a44PiJpFD2JjbA9A1ubPihTqD0="
   },
   "globals.weight": {
    "shape": [
     8,
     10
    ],
    "data": "4IyhPh1Nm76/LJC+fcdGPppKBz2LXZU8KzczvqDAB75bQr29qqSdvsKLhjy+9GQ94EiMuWAI0T3Vi5k+JRusPSjy7L1bLwW+bRJPvjZaYL7zboM+GQOsPVsIkz4eFIi+pzMHPxIIlr4APOm9WHP9Pmpz4D56sMw84zc6u7SfrT6IKEG+GYpSvsWesD5tLMS+8VnmvEXX6j3iDT++7Hk5Py7Iwj6LBOw+k3uzPgbQN77Srso+oKajvviJ0L0insy9F+AKPjyPNj48PLI+8UdAPvWqxD5UwTG+wd91Pj+ASb7Ejr++FOy2Pi3rMj7eYPI9UmC0vtJZnz6TvaC+ZZiRPselPb78g5k+msN1PuGzyr5Nh129FKsaP3qdj74ADaA+hBOSPaylDD/D2ie+PFGoPQ0f7z6XFL2+fN8iPtqyMj0="
   },
   "knots.bias": {
    "shape": [
     8
    ],
    "data": "RxaMvykUdr/mYhC+adXCPdATPj7Phjs+Fypnu1cdTL0="
   },
   "knots.weight": {
    "shape": [
     8,
     8,
     1,
     1
    ],
    "data": "AAAAAAAAAACLAS6/geQbP/5Slz9W95m+xNVnPmvi0z4AAAAAAAAAAPjZ977lT98+VhUeP/7VVb4rIk0+Y+2+PgAAAAAAAAAAVvt8vrRoRT4u8SG+DG9bvtuiTz6qr6k+AAAAAAAAAAAJVQ6+yCiXPQLwe76UwFW+Lc0gPqOQlT4AAAAAAAAAAFZ2h7189vW81tQ3vvndTr5u4AE+1HRhPgAAAAAAAAAABq/6vGpFBr3r3vO9npkfvrAYmD1TgRk+AAAAAAAAAACCjWO9/g2zvdOitL3BDYO9FwEkvQFbbz4AAAAAAAAAAF1joLzeHLG8x7fWvMqoiL14umm9D78HPg=="
   },
   "saturate.bias": {
    "shape": [
     1
    ],
    "data": "l0NTvg=="
   },
   "saturate.weight": {
    "shape": [
     1,
     10
    ],
    "data": "eqe3Pb/t370iaKk9tyMMvgEnPT6oTTq+so+BvWHx4j2taGY9NV9ivg=="
   },
   "smoothing.log_tolerance": {
    "shape": [
     4,
     2
    ],
    "data": "0NI1QLnJf0AOu9k+/YELQIe1hj9J6wtAlv48QAZ3yD8="
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
  "mostChroma": 0.3,
  "mostLossOfWhite": 0.15,
  "floor": 0.015625,
  "deep": 0.22,
  "clipped": 0.9784313725490196,
  "nearlyClipped": 0.9,
  "certainClipped": 0.01,
  "fallingOff": [
   0.05,
   0.1
  ],
  "samples": 256,
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
