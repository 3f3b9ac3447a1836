import numpy as np
import pytest

from pipeline.core.errors import BadSpec
from pipeline.core.preprocessing import SCALE, ZERO_POINTS, Preprocessing


def all_pixels():
    return np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


def test_an_integer_input_is_the_raw_pixel():
    image = all_pixels()
    preprocessing = Preprocessing(16, 16)
    assert preprocessing.tensor(image, "uint8").tobytes() == image.tobytes()
    assert (preprocessing.tensor(image, "int8").astype(int)[0] == image.astype(int) - 128).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_every_type_stands_for_the_same_real(dtype):
    preprocessing = Preprocessing(16, 16)
    q = preprocessing.tensor(all_pixels(), dtype).astype(np.float64)
    real = SCALE * (q - ZERO_POINTS[dtype])
    assert np.abs(real - preprocessing.tensor(all_pixels(), "float32")).max() < 1e-7


def test_another_size_is_resized_and_a_fitting_one_left_alone():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = 200
    assert Preprocessing(10, 20).fit(image) is image
    half = Preprocessing(5, 10).fit(image)
    assert half.shape == (5, 10, 3)
    assert half[2, 1].tolist() == [0, 0, 0]
    assert half[2, 8].tolist() == [200, 200, 200]


def test_an_unknown_type_is_refused():
    with pytest.raises(BadSpec, match="int16.*uint8, int8, float32"):
        Preprocessing(16, 16).tensor(all_pixels(), "int16")  # type: ignore[arg-type]
