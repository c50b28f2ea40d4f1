"""What the lessons on gradient checking show is so; the bugs themselves: test_gradcheck.py."""

import numpy as np
import pytest

from gru_np import lessons, recurrence
from gru_np.callbacks import History


def test_the_v_curves_are_a_v_and_a_floor():
    curves = lessons.v_curves()
    steps = curves["step"]
    forward, central = steps[curves["forward"].argmin()], steps[curves["central"].argmin()]
    assert 1e-9 < forward < 1e-6 < central < 1e-3
    assert curves["complex"][steps < 1e-9].max() < 1e-13
    assert curves["central"][-1] > 1e3 * curves["central"].min()


def test_the_taylor_slope_tells_right_from_wrong():
    curves = lessons.taylor_curves(["r forgotten in da_hn", "W_hh transposed"])
    for name, remainders in curves.items():
        if name != "step":
            slope = np.polyfit(np.log(curves["step"]), np.log(remainders), 1)[0]
            assert abs(slope - (2 if name == "as it is" else 1)) < 0.05


def test_planting_leaves_the_library_alone():
    before = recurrence.gru_backward, recurrence.equations.gru_step_backward
    assert not lessons.demonstrate("the sign of dz").ok
    assert before == (recurrence.gru_backward, recurrence.equations.gru_step_backward)
    assert lessons.plant(None).gru_backward is not recurrence.gru_backward


def test_an_unknown_bug_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'the sign of dz'"):
        lessons.demonstrate("the sign of dx")
    with pytest.raises(ValueError, match="form"):
        lessons.demonstrate("r forgotten in da_hn", form="before")


def test_pictures_go_onto_given_axes():
    plt = pytest.importorskip("matplotlib.pyplot")
    for draw in (lessons.plot_v_curves, lessons.plot_taylor):
        _, axis = plt.subplots()
        assert draw(axes=axis) is axis


def test_history_draws_each_number_with_its_validation():
    pytest.importorskip("matplotlib")
    history = History()
    for epoch in range(4):
        history.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "accuracy": 0.5, "val_loss": 0.9})
    loss, accuracy = history.plot()
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert len(accuracy.lines) == 1
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="did you mean 'loss'"):
        history.plot(["los"])
