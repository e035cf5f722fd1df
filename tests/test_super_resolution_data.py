import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from kdlib.data import PatchPairs, SharpImages, Vimeo90K, augment_pair, read_photo
from kdlib.resampling import as_stored, blur, enlarge, shrink


def noise_image(seed, height=40, width=48):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, seed, *size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise_image(seed, *size)).save(path)


def chw(photo):
    return torch.from_numpy(photo).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    """Six photos of different sizes, one in a subfolder, with names that are no ASCII."""
    for k in range(5):
        save(tmp_path / "sharp" / f"φ{k}.png", k, 40 + k, 48)
    save(tmp_path / "sharp" / "φ5" / "last.png", 5, 64, 64)
    return tmp_path / "sharp"


def vimeo(root, layout="septuplet", clips=("00001/0001", "00001/0010", "00096/0936"), split="train"):
    prefix, frames = {"septuplet": ("sep", 7), "triplet": ("tri", 3)}[layout]
    for k, clip in enumerate(clips):
        for frame in range(1, frames + 1):
            save(root / "sequences" / clip / f"im{frame}.png", 10 * k + frame, 16, 28)
    (root / f"{prefix}_{split}list.txt").write_text("\n".join(clips) + "\n")
    return root


# A folder


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_folder_gives_its_photos_sorted(folder, in_memory):
    images = SharpImages(folder, in_memory=in_memory)
    assert len(images) == 6
    for k, path in enumerate(sorted(folder.rglob("*.png"))):
        assert images.path(k) == path
        assert images[k].dtype == torch.uint8
        assert images[k].is_contiguous()
        assert torch.equal(images[k], chw(read_photo(path)))
    assert torch.equal(images[-1], images[5])
    with pytest.raises(IndexError):
        images[6]
    assert images.unreadable == []


def test_in_memory_needs_the_files_no_more_and_hands_out_copies(folder):
    images = SharpImages(folder, in_memory=True)
    for path in folder.rglob("*.png"):
        path.unlink()
    first = images[0]
    images[0].zero_()
    assert torch.equal(images[0], first)
    assert first.any()


def test_without_in_memory_photos_are_decoded_when_asked_for(folder):
    images = SharpImages(folder)
    for k in range(len(images)):
        images.path(k).unlink()
    save(images.path(3), 99, 50, 50)
    assert torch.equal(images[3], chw(noise_image(99, 50, 50)))


@pytest.mark.parametrize("in_memory", [False, True])
def test_an_unreadable_photo_is_named_once_and_the_next_taken(folder, in_memory):
    (folder / "φ1.png").write_bytes(b"no photo")
    (folder / "φ2.png").write_bytes((folder / "φ2.png").read_bytes()[:500])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = SharpImages(folder, in_memory=in_memory)
        for _ in range(3):
            assert torch.equal(images[1], chw(read_photo(folder / "φ3.png")))
            assert torch.equal(images[2], images[3])
    assert images.unreadable == [str(folder / "φ1.png"), str(folder / "φ2.png")]
    assert [sum(name in str(w.message) for w in caught) for name in images.unreadable] == [1, 1]
    assert len(caught) == 2


def test_after_the_last_photo_comes_the_first(folder):
    (folder / "φ5" / "last.png").write_bytes(b"")
    images = SharpImages(folder)
    with pytest.warns(UserWarning, match=r"last\.png: the file is empty"):
        assert torch.equal(images[5], images[0])


def test_small_photos_are_reported_like_unreadable_ones(folder):
    images = SharpImages(folder, least_side=64)
    with pytest.warns(UserWarning, match="pixels; its sides") as caught:
        assert images[0].shape == (3, 64, 64)
    assert len(caught) == len(images.unreadable) == 5
    assert "φ0.png: 48 × 40 pixels; its sides must have 64 or more" in str(caught[0].message)


@pytest.mark.parametrize("bad", [20, 21])
def test_only_so_many_in_a_row_are_passed_over(tmp_path, bad):
    for k in range(bad):
        (tmp_path / f"{k:02d}.png").write_bytes(b"no photo")
    save(tmp_path / "99.png", 1)
    images = SharpImages(tmp_path)
    for _ in range(2):  # the second time all of them are known already
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if bad == 20:
                assert torch.equal(images[0], chw(noise_image(1)))
            else:
                with pytest.raises(ValueError, match=r"21 images in a row cannot be read, from .*00\.png"):
                    images[0]
    if bad == 21:
        with pytest.raises(ValueError, match=r"21 images in a row"):
            images[0]
        assert torch.equal(images[1], chw(noise_image(1)))


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no photo")
    with pytest.warns(UserWarning, match=r"a\.png"), pytest.raises(ValueError, match="1 images in a row"):
        SharpImages(tmp_path)[0]
    with pytest.warns(UserWarning, match=r"a\.png"), pytest.raises(ValueError, match="none of the 1 photos"):
        SharpImages(tmp_path, in_memory=True)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        SharpImages(tmp_path / "absent")
    with pytest.raises(ValueError, match="least_side must be a number of at least 1"):
        SharpImages(tmp_path, least_side=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])  # a spawned one imports PyTorch
def test_the_owner_learns_what_workers_could_not_read(folder, start, workers):
    (folder / "φ4.png").write_bytes(b"no photo")
    images = SharpImages(folder)
    loader = DataLoader(images, batch_size=None, num_workers=workers, multiprocessing_context=start)
    seen = list(loader)
    assert len(seen) == 6
    assert torch.equal(seen[4], seen[5])
    assert images.unreadable == [str(folder / "φ4.png")]


# Vimeo-90K


@pytest.mark.parametrize(("layout", "frames"), [("septuplet", 7), ("triplet", 3)])
def test_vimeo_is_read_by_list(tmp_path, layout, frames):
    root = vimeo(tmp_path, layout)
    save(root / "sequences" / "00002" / "0001" / "im1.png", 99)  # in no list
    images = Vimeo90K(root, layout=layout)
    assert len(images) == 3 * frames
    assert images.path(0) == root / "sequences/00001/0001/im1.png"
    assert images.path(frames + 1) == root / "sequences/00001/0010/im2.png"
    assert images.path(len(images) - 1) == root / f"sequences/00096/0936/im{frames}.png"
    for k in range(len(images)):
        assert torch.equal(images[k], chw(noise_image(10 * (k // frames) + k % frames + 1, 16, 28)))


def test_vimeo_splits_and_chosen_frames(tmp_path):
    vimeo(tmp_path)
    vimeo(tmp_path, clips=("00005/0002",), split="test")
    middle = Vimeo90K(tmp_path, "test", frames=[4])
    assert len(middle) == 1
    assert middle.path(0).parts[-3:] == ("00005", "0002", "im4.png")
    two = Vimeo90K(tmp_path, frames=(7, 1))
    assert [two.path(k).name for k in range(3)] == ["im7.png", "im1.png", "im7.png"]


def test_vimeo_keeps_little_for_each_entry(tmp_path):
    clips = 91_701
    (tmp_path / "sep_trainlist.txt").write_text(
        "".join(f"{k // 1000 + 1:05d}/{k % 1000 + 1:04d}\n" for k in range(clips))
    )
    images = Vimeo90K(tmp_path, check=False)
    assert len(images) == 7 * clips
    assert images.path(7 * clips - 1) == tmp_path / "sequences/00092/0701/im7.png"
    kept = {name: value.nbytes for name, value in vars(images).items() if isinstance(value, np.ndarray | torch.Tensor)}
    assert kept == {"_clips": 4 * clips, "_failed": 7 * clips}
    # All that it holds, whatever it is called: what a worker would be sent.
    assert len(pickle.dumps(images)) < 11 * clips + 4096


def test_vimeo_names_a_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent does not exist"):
        Vimeo90K(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"sep_testlist\.txt does not exist; give the folder that holds seq"):
        Vimeo90K(vimeo(tmp_path), "test")
    with pytest.raises(
        FileNotFoundError, match=r"tri_trainlist\.txt does not exist; there is one of layout 'septuplet'"
    ):
        Vimeo90K(tmp_path, layout="triplet")


@pytest.mark.parametrize("line", ["00001", "0001/0001", "00001/0002/im1.png", "../00001/0001", "", "00001/०००१"])
def test_vimeo_names_a_malformed_line(tmp_path, line):
    vimeo(tmp_path)
    (tmp_path / "sep_trainlist.txt").write_text(f"00001/0001\n{line}\n00001/0010\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"sep_trainlist\.txt, line 2: .* is not a clip"):
        Vimeo90K(tmp_path)


def test_vimeo_takes_lists_of_windows_and_refuses_empty_ones(tmp_path):
    vimeo(tmp_path)
    (tmp_path / "sep_trainlist.txt").write_bytes(b"00001/0001\r\n00001/0010\r\n\r\n")
    assert len(Vimeo90K(tmp_path)) == 14
    (tmp_path / "sep_trainlist.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"sep_trainlist\.txt is empty"):
        Vimeo90K(tmp_path)


def test_vimeo_names_the_line_of_a_missing_clip(tmp_path):
    vimeo(tmp_path)
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00096/0936\n00077/0001\n")
    message = r"sep_trainlist\.txt, line 3: there is no folder .*sequences/00077/0001"
    with pytest.raises(FileNotFoundError, match=message):
        Vimeo90K(tmp_path)
    images = Vimeo90K(tmp_path, check=False)
    assert images[13].shape == (3, 16, 28)
    with pytest.raises(FileNotFoundError, match=message):
        images[14]


def test_vimeo_passes_over_a_missing_or_damaged_frame(tmp_path):
    vimeo(tmp_path)
    (tmp_path / "sequences/00001/0001/im3.png").unlink()
    (tmp_path / "sequences/00001/0001/im4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images = Vimeo90K(tmp_path)
    with pytest.warns(UserWarning, match=r"im3\.png: no such file"), pytest.warns(UserWarning, match=r"im4\.png"):
        assert torch.equal(images[2], images[4])
    assert [name[-7:] for name in images.unreadable] == ["im3.png", "im4.png"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val"}, "unknown split 'val'; choose from train, test"),
        ({"layout": "quintuplet"}, "unknown layout 'quintuplet'"),
        ({"layout": "triplet", "frames": [4]}, "frames of a triplet are numbered from 1 to 3"),
        ({"frames": []}, "frames of a septuplet"),
    ],
)
def test_vimeo_refuses_what_it_does_not_know(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        Vimeo90K(tmp_path, **settings)


# Patches


def smooth(seed, height, width):
    """An image with detail and without noise, 3×H×W uint8."""
    coarse = torch.rand(1, 3, height // 3, width // 3, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return large[0].clamp(0, 1).mul(255).round().byte()


def find(patch, image):
    """Where a patch lies in an image."""
    side = patch.shape[-1]
    corners = (
        (image[:, : image.shape[1] - side + 1, : image.shape[2] - side + 1] == patch[:, :1, :1]).all(dim=0).nonzero()
    )
    found = [(t, k) for t, k in corners.tolist() if torch.equal(image[:, t : t + side, k : k + side], patch)]
    assert len(found) == 1
    return found[0]


def blurred_whole(image, factor=4):
    return blur(image[None].float() / 255, factor)[0].mul(255).round().byte()


def test_a_pair_is_shrunk_stored_and_enlarged():
    image = smooth(0, 40, 40)
    blurred, sharp = PatchPairs([image], 40)[0]
    small = shrink(image[None].float() / 255, 4)
    assert small.shape == (1, 3, 10, 10)
    assert torch.equal(sharp, image)
    assert torch.equal(blurred, enlarge(as_stored(small), 4).clamp(0, 1).mul(255).round().byte()[0])
    unstored = enlarge(small, 4).clamp(0, 1).mul(255).round().byte()[0]
    assert not torch.equal(blurred, unstored), "rounding the small image makes a difference"


@pytest.mark.parametrize("make", [smooth, lambda *a: chw(noise_image(*a))])
@pytest.mark.parametrize(("height", "width"), [(64, 72), (67, 73), (16, 50)])
def test_a_patch_is_cut_from_the_blurred_whole(make, height, width):
    image = make(1, height, width)
    kept = image[:, : height // 4 * 4, : width // 4 * 4]
    whole = blurred_whole(kept)
    places = set()
    for blurred, sharp in PatchPairs([image], 16, repeats=150):
        assert blurred.shape == sharp.shape == (3, 16, 16)
        assert blurred.dtype == sharp.dtype == torch.uint8
        top, left = find(sharp, kept)
        assert torch.equal(blurred, whole[:, top : top + 16, left : left + 16])
        places.add((top, left))
    assert all(v % 4 == 0 for place in places for v in place)
    tops, lefts = ({place[k] for place in places} for k in (0, 1))
    # To the very borders, and everywhere between them.
    assert tops == set(range(0, kept.shape[1] - 15, 4))
    assert lefts == set(range(0, kept.shape[2] - 15, 4))


def test_another_factor():
    image = smooth(3, 48, 48)
    blurred, sharp = PatchPairs([image], 15, upscale=3)[0]
    top, left = find(sharp, image)
    assert top % 3 == left % 3 == 0
    assert torch.equal(blurred, blurred_whole(image, 3)[:, top : top + 15, left : left + 15])


def drawn(pairs, **settings):
    return torch.stack([sharp for _, sharp in DataLoader(pairs, batch_size=None, **settings)])


IMAGES = [smooth(k, 64, 64) for k in range(6)]


@pytest.mark.parametrize("workers", [0, 2])
def test_patches_depend_on_the_seed_and_not_on_workers(workers):
    pairs, again = PatchPairs(IMAGES, 16, seed=3), PatchPairs(IMAGES, 16, seed=3)
    for _ in range(2):
        assert torch.equal(drawn(pairs, num_workers=workers), drawn(again))
    assert not torch.equal(drawn(PatchPairs(IMAGES, 16, seed=4)), drawn(PatchPairs(IMAGES, 16, seed=3)))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_and_epochs_draw_different_patches(persistent):
    # One image six times: patches that are alike were drawn at the same place.
    pairs = PatchPairs([IMAGES[0]] * 6, 16)
    loader = DataLoader(pairs, batch_size=None, num_workers=2, persistent_workers=persistent)
    epochs = [torch.stack([sharp for _, sharp in loader]) for _ in range(3)]
    patches = {patch.numpy().tobytes() for patch in torch.cat(epochs)}
    assert len(patches) > 14, "of 18 patches at 169 places"
    pairs.set_epoch(1)
    assert torch.equal(torch.stack([sharp for _, sharp in loader]), epochs[1])


def test_a_shuffled_epoch_draws_the_same_patches():
    straight, shuffled = PatchPairs(IMAGES, 16), PatchPairs(IMAGES, 16)
    sampled = list(DataLoader(shuffled, 2, shuffle=True, generator=torch.Generator().manual_seed(1)))
    patches = torch.cat([sharp for _, sharp in sampled])
    assert sampled[0][0].shape == (2, 3, 16, 16)
    assert {p.numpy().tobytes() for p in patches} == {p.numpy().tobytes() for p in drawn(straight)}


def test_repeats_and_subsets_and_folders(folder):
    pairs = PatchPairs(Subset(SharpImages(folder), [5]), 16, repeats=4)
    assert len(pairs) == 4
    assert len({sharp.numpy().tobytes() for _, sharp in pairs}) > 1
    with pytest.raises(IndexError):
        pairs[4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 18}, "patch is a multiple of 4"),
        ({"patch": 0}, "patch is a multiple of 4"),
        ({"upscale": 1}, "upscale must be a number of at least 2"),
        ({"patch": 16, "repeats": 0}, "repeats must be a number of at least 1"),
        ({"patch": 16, "seed": -1}, "seed must be a number of at least 0"),
    ],
)
def test_patches_refuse_senseless_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PatchPairs(IMAGES, **settings)


def test_patches_refuse_small_images_and_negative_epochs(folder):
    with pytest.raises(ValueError, match=r"image 0 has 48 × 40 pixels, too few for patches of 44.*least_side=44"):
        PatchPairs(SharpImages(folder), 44)[0]
    with pytest.raises(ValueError, match=r"image 0 is torch\.float32; patches are cut from 8 bits"):
        PatchPairs([torch.rand(3, 64, 64)], 16)[0]
    with pytest.raises(ValueError, match="the epoch must be a number of at least 0"):
        PatchPairs(IMAGES, 16).set_epoch(-1)


# Augmentation


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def orientations(image):
    return [turned for k in range(4) for turned in (image.rot90(k, (-2, -1)), image.rot90(k, (-2, -1)).flip(-1))]


def test_both_images_get_the_same_draw():
    photos = torch.rand(32, 3, 16, 16, generator=rng())
    blurred, sharp = augment_pair(photos, photos, rng(1), noise=0)
    assert torch.equal(blurred, sharp)
    assert not torch.equal(sharp, photos)
    blurred, sharp = augment_pair(photos * 0.5, photos, rng(1), noise=0)
    torch.testing.assert_close(blurred, sharp * 0.5)


def test_all_eight_orientations_occur_equally():
    photo = torch.rand(1, 3, 8, 8, generator=rng())
    photos = photo.expand(800, -1, -1, -1)
    _, sharp = augment_pair(photos, photos, rng(1), noise=0, brightness=0)
    counts = [int((sharp == turned).flatten(1).all(dim=1).sum()) for turned in orientations(photo)]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_brightness_is_drawn_for_each_pair_and_clips_nothing():
    photos = torch.full((500, 3, 4, 4), 0.5)
    _, sharp = augment_pair(photos, photos, rng(), noise=0)
    factor = sharp[:, 0, 0, 0] / 0.5
    assert torch.equal(sharp, sharp[:, :1, :1, :1].expand_as(sharp)), "one factor for a photo"
    assert 0.8 <= factor.min() < 0.81
    assert 1.19 < factor.max() <= 1.2
    assert float(factor.mean()) == pytest.approx(1, abs=0.02)

    # The blurred image overshoots to 0.95: the pair may be brightened by 1/0.95, and stays a multiple of what it was.
    blurred, sharp = photos.clone(), photos * 1.2
    blurred[:, :, 0, 0] = 0.95
    turned_blurred, turned = augment_pair(blurred, sharp, rng(), noise=0)
    factor = turned[:, 0, 0, 0] / 0.6
    assert float(factor.max()) == pytest.approx(1 / 0.95)
    torch.testing.assert_close(turned_blurred.amax(dim=(1, 2, 3)), 0.95 * factor)
    assert turned_blurred.max() <= 1


def test_noise_is_the_small_images_and_on_the_input_alone():
    photos = torch.full((64, 3, 32, 32), 0.5)
    blurred, sharp = augment_pair(photos, photos, rng(), brightness=0)
    assert torch.equal(sharp, photos)
    noise = blurred - sharp
    assert abs(float(noise.mean())) < 5e-4
    # Bicubic enlarging by 4 leaves 0.814 of white noise's deviation; σ is drawn up to 0.02.
    sigma = noise.std(dim=(1, 2, 3)) / 0.814
    assert sigma.max() < 0.022
    assert sigma.max() > 0.018
    assert sigma.min() < 0.003
    # As strong at the border as inside, and soft: neighbouring pixels differ less than pixels of two grains.
    assert float(noise[..., 0].std() / noise.std()) == pytest.approx(1, abs=0.1)
    near, far = noise[..., 1:] - noise[..., :-1], noise[..., 8:] - noise[..., :-8]
    assert near.std() < 0.5 * far.std()


def test_noise_stays_in_range_and_fits_any_side():
    for side in (1, 7, 18):
        photos = torch.rand(4, 3, side, side, generator=rng()).round()
        blurred, _ = augment_pair(photos, photos, rng(), noise=0.2)
        assert blurred.shape == photos.shape
        assert blurred.min() >= 0
        assert blurred.max() <= 1


@pytest.mark.parametrize("settings", [{"brightness": 1.5}, {"brightness": float("nan")}, {"noise": -0.1}])
def test_augmentation_refuses_what_would_spoil_pairs(settings):
    photos = torch.rand(2, 3, 8, 8, generator=rng())
    with pytest.raises(ValueError, match=r"(brightness|noise) must be a number"):
        augment_pair(photos, photos, rng(), **settings)


def test_augmentation_is_reproducible_and_leaves_its_input_alone():
    photos = torch.rand(8, 3, 16, 16, generator=rng())
    copy = photos.clone()
    first, again = augment_pair(photos, photos, rng(5)), augment_pair(photos, photos, rng(5))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(augment_pair(photos, photos, rng(6))[0], first[0])
    assert torch.equal(photos, copy)


@pytest.mark.parametrize("shapes", [((2, 3, 8, 8), (2, 3, 8, 4)), ((2, 3, 8, 4), (2, 3, 8, 4)), ((3, 8, 8), (3, 8, 8))])
def test_augmentation_refuses_what_cannot_be_turned(shapes):
    with pytest.raises(ValueError, match="two batches B×3×P×P alike"):
        augment_pair(*(torch.zeros(shape) for shape in shapes), rng())


def test_augmentation_works_where_the_batch_is():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    photos = torch.rand(8, 3, 16, 16, device="cuda")
    blurred, sharp = augment_pair(photos, photos, torch.Generator("cuda").manual_seed(0))
    assert blurred.is_cuda
    assert sharp.is_cuda
