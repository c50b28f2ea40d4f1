"""Forecasts: honest by construction, equal by every route, saved whole, judged in plain words."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_close

from gru_np import Sequential, cli, series
from gru_np.series import features, scores
from gru_np.series.backtest import repeats_last_value
from gru_np.series.heads import KINDS, Head
from gru_np.series.naive import carry


def assert_same(actual, expected):
    """Compare forecasts, which are made in float32 and scaled back in float64."""
    assert_close(np.float32(actual), np.float32(expected), "rounding")


SMALL = {"units": 6, "epochs": 2, "lookback": 24}


def wavy(rng, n=240, columns=("x", "p", "k"), gaps=True):
    """A daily season of hours with a trend, a past and a known covariate, some values missing."""
    t = np.arange(n)
    k = (rng.random(n) < 0.3).astype(float)
    p = rng.standard_normal(n)
    x = 10 + 0.01 * t + 3 * np.sin(2 * np.pi * t / 24) + 2 * k + 0.2 * rng.standard_normal(n)
    values = np.stack([x, p, k], axis=1)
    if gaps:
        values[rng.integers(5, n - 60, 6), 0] = np.nan
        values[rng.integers(5, n - 60, 4), 1] = np.nan
    hours = np.datetime64("2024-01-01T00") + np.arange(n)
    return series.Series(values[:, : len(columns)], columns, hours)


@pytest.fixture(scope="module")
def fitted():
    data = wavy(np.random.default_rng(5))
    forecaster = series.Forecaster(
        "x", 6, past=["p"], known=["k"], loss="quantiles", seed=3, **(SMALL | {"epochs": 4})
    )
    return forecaster.fit(data, stop=180), data


# -------------------------------------------------------------------------------------- honesty


@pytest.mark.parametrize("method", ["direct", "recursive"])
def test_no_forecast_changes_when_the_future_does(rng, method):
    data = wavy(rng)
    kinds = {"known": ["k"]} | ({"past": ["p"]} if method == "direct" else {"paths": 5})
    forecaster = series.Forecaster("x", 6, method=method, **kinds, **SMALL).fit(data, stop=160)
    origins = np.array([165, 190, 200])
    point, quantiles = forecaster.predict(data, origins)
    other = data.rows(0, len(data))
    other.values = data.values.copy()
    other.values[201:, :2] = 1e6 * rng.standard_normal((39, 2))  # not k: its future is known
    again = forecaster.predict(other, origins)
    assert_close(again[0], point, "exact")
    assert_close(again[1], quantiles, "exact")


def test_training_sees_no_row_from_stop_on(rng):
    data = wavy(rng)
    first = series.Forecaster("x", 6, past=["p"], **SMALL).fit(data, stop=150)
    data.values[150:] = 1e9
    second = series.Forecaster("x", 6, past=["p"], **SMALL).fit(data, stop=150)
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        assert_close(b, a, "exact")
    assert first.get_config() == second.get_config()


def test_scaling_layout_and_training_windows_see_training_rows_only(rng):
    data = wavy(rng)
    first = series.Forecaster("x", 6, past=["p"], **SMALL).fit(data, stop=180, validation=40)
    changed = data.rows(0, 240)
    changed.values = data.values.copy()
    changed.values[140:180] *= -30
    second = series.Forecaster("x", 6, past=["p"], **SMALL).fit(changed, stop=180, validation=40)
    assert first.parts == (140, 180, 240)
    for name in ("mean", "std", "log"):
        assert_close(getattr(second.scaling, name), getattr(first.scaling, name), "exact")
    assert first.layout == second.layout and first.trained["mase"] == second.trained["mase"]
    z = first.scaling.apply(data.rows(0, 180).values[:, :2])
    z2 = first.scaling.apply(changed.rows(0, 180).values[:, :2])
    clock = data.clock.rows_between(0, 180)
    one = first._examples(z, clock, first.parts)
    two = first._examples(z2, clock, first.parts)
    for a, b in zip(one[:3], two[:3], strict=True):
        assert_close(b, a, "exact")
    assert not np.array_equal(one[3][1], two[3][1])


def test_every_validation_target_counts_once_and_no_training_target_counts_there(rng):
    data = wavy(rng, gaps=False)
    forecaster = series.Forecaster("x", 4, **SMALL).fit(data, stop=200, validation=30)
    z = forecaster.scaling.apply(data.rows(0, 200).values[:, :1])
    clock = data.clock.rows_between(0, 200)
    _, _, _, (_, _, weight) = forecaster._examples(z, clock, forecaster.parts)
    assert weight.sum() == 30 * 4 - 6  # the last origins have fewer steps to be judged by


def test_a_backtest_inside_the_training_rows_is_refused(fitted):
    forecaster, data = fitted
    with pytest.raises(ValueError, match="must be row 179 or later"):
        series.backtest(forecaster, data, first=100)
    with pytest.raises(ValueError, match="too few"):
        series.backtest(forecaster, data.rows(0, 182))
    later = data.rows(60, 240)  # the same time, other row numbers
    assert series.backtest(forecaster, later).origins[0] == 119


def test_a_backtest_with_retraining_sees_the_past_alone(rng):
    data = wavy(rng, columns=("x",))
    asked = series.Forecaster("x", 4, **SMALL)
    report = series.backtest(asked, data, first=200, stride=6, refit_every=2)
    assert report.origins.tolist() == [200, 206, 212, 218, 224, 230]
    changed = data.rows(0, 240)
    changed.values = data.values.copy()
    changed.values[213:] += 50
    again = series.backtest(asked, changed, first=200, stride=6, refit_every=2)
    assert_close(again.point[:3], report.point[:3], "exact")
    with pytest.raises(ValueError, match="first must say where"):
        series.backtest(asked, data, refit_every=2)


def test_the_report_holds_every_score_of_the_model_and_of_every_naive_forecast(fitted):
    forecaster, data = fitted
    report = series.backtest(forecaster, data)
    found = report.scores["x"]
    names = ["GRU", "persistence", "drift", "seasonal naive", "seasonal + drift"]
    assert list(found) == names and report.season == 24
    text = repr(report)
    for word in (*names, "MAE", "RMSE", "sMAPE", "MASE", "CRPS", "in 80 %", "in 90 %", "naive"):
        assert word in text
    origin = report.origins
    seasonal = data["x"][origin[:, None] + np.arange(1, 7) - 24]
    assert_close(
        found["seasonal naive"]["MAE"], scores.mae(report.truth[..., 0], seasonal), "naive"
    )
    assert_close(found["GRU"]["MAE"], scores.mae(report.truth, report.point), "naive")
    assert json.loads(json.dumps(report.to_json()))["origins"] == len(origin)


def test_a_random_walk_is_called_what_it_is(rng):
    walk = series.Series(np.cumsum(rng.standard_normal(500)), ["price"])
    forecaster = series.Forecaster("price", 1, units=8, epochs=5, lookback=24)
    report = series.backtest(forecaster.fit(walk, stop=300), walk)
    assert any("only repeats the last value" in warning for warning in report.warnings)


def test_a_lagged_copy_is_found_out_and_a_good_forecast_is_not(rng):
    wave = np.sin(np.arange(300) / 5)
    origins = np.arange(299)
    noise = 0.01 * rng.standard_normal(299)
    assert "repeats the last value" in repeats_last_value(wave, origins, wave[:-1] + noise)
    assert repeats_last_value(wave, origins, wave[1:] + noise) == ""
    white = rng.standard_normal(300)
    assert repeats_last_value(white, origins, np.zeros(299)) == ""  # the mean is a fair forecast
    assert repeats_last_value(np.ones(300), origins, np.ones(299)) == ""


def test_a_season_is_learned_better_than_any_naive_forecast_can(rng):
    data = wavy(rng, 700, columns=("x",), gaps=False)
    forecaster = series.Forecaster("x", 6, units=16, epochs=12, lookback=48, seed=1)
    report = series.backtest(forecaster.fit(data, stop=600), data)
    best = min(s["MAE"] for name, s in report.scores["x"].items() if name != "GRU")
    assert report.scores["x"]["GRU"]["MAE"] < best
    assert 0.5 < report.scores["x"]["GRU"]["in 90 %"] <= 1


@pytest.mark.parametrize("loss", ["quantiles", "gaussian", "mae"])
def test_on_the_validation_rows_intervals_hold_the_share_they_say(rng, loss):
    data = wavy(rng, 400, columns=("x",), gaps=False)
    forecaster = series.Forecaster("x", 4, loss=loss, **SMALL).fit(data, validation=100)
    parts = forecaster.parts
    origins = np.arange(parts.train - 1, parts.validation - 1)
    _, quantiles = forecaster.predict(data, origins, [0.1, 0.9])
    truth = features.truths(data.values, origins, 4)
    for h in range(4):
        known = ~np.isnan(truth[:, h, 0])
        low, high = quantiles[known, h, 0].T
        inside = np.mean((truth[known, h, 0] >= low) & (truth[known, h, 0] <= high))
        assert abs(inside - 0.8) < 0.03  # a value or two of a hundred


def test_chaos_that_comes_back_by_chance_has_no_season_for_the_model():
    data = series.mackey_glass(1500)
    forecaster = series.Forecaster("x", 24, units=4, epochs=1).fit(data, stop=1200)
    assert (forecaster.trained["season"], forecaster.layout.season) == (300, 1)
    assert "seasonal naive" in series.backtest(forecaster, data, stride=50).scores["x"]
    sine = series.Series(np.sin(2 * np.pi * np.arange(600) / 25))
    forecaster = series.Forecaster("value", 24, units=4, epochs=1).fit(sine, stop=500)
    assert forecaster.layout.season == 25


# -------------------------------------------------------------------------- equal by every route


@pytest.mark.parametrize("loss", KINDS)
def test_forecast_stream_and_backtest_agree(rng, loss):
    data = wavy(rng)
    forecaster = series.Forecaster("x", 5, past=["p"], known=["k"], loss=loss, **SMALL)
    forecaster.fit(data, stop=180)
    report = series.backtest(forecaster, data)
    forecast = forecaster.forecast(data, origin=200)
    where = int(np.flatnonzero(report.origins == 200)[0])
    assert_same(forecast.point, report.point[where])
    assert_same(forecast.quantiles, report.quantiles[where])
    begin = data.rows(0, 195)  # the last five have known covariates alone
    begin.values = begin.values.copy()
    begin.values[190:, :2] = np.nan
    stream = forecaster.stream(begin)
    for t in range(190, 201):
        point = stream.push(data.values[t], data.values[t + 1 : t + 6, 2:])
    assert_same(point, forecast.point)
    assert_same(stream.quantiles(), forecast.quantiles)
    assert (np.diff(forecast.quantiles, axis=-1) >= -1e-6).all()


@pytest.mark.parametrize("base", features.BASES)
def test_a_stream_keeps_lags_over_missing_values_as_a_forecast_does(rng, base):
    data = wavy(rng, columns=("x",))
    data.values[[205, 206, 229]] = np.nan
    forecaster = series.Forecaster("x", 30, base=base, season=24, **SMALL).fit(data, stop=180)
    stream = forecaster.stream(data.rows(0, 100))
    for t in range(100, 232):
        point = stream.push(data.values[t])
    assert_same(point, forecaster.forecast(data, origin=231).point)


def test_pieces_of_a_long_series_give_what_one_pass_gives(rng, monkeypatch):
    data = wavy(rng, columns=("x",))
    forecaster = series.Forecaster("x", 3, layers=2, **SMALL).fit(data, stop=180)
    origins = np.array([220, 30, 120, 121])
    whole = forecaster.predict(data, origins)[0]
    monkeypatch.setattr(series.forecasting, "CHUNK", 37)
    assert_same(forecaster.predict(data, origins)[0], whole)


def test_a_direct_forecast_of_one_step_is_the_first_step_of_the_recursive_one(rng):
    data = wavy(rng, columns=("x",), gaps=False)
    forecaster = series.Forecaster("x", 4, method="recursive", loss="mse", **SMALL)
    forecaster.fit(data, stop=180)
    origins = np.array([185, 200])
    point = forecaster.predict(data, origins)[0]
    # Feeding the first step back by hand gives the second.
    for i, origin in enumerate(origins):
        longer = data.rows(0, origin + 2)
        longer.values = longer.values.copy()
        longer.values[origin + 1] = point[i, 0]
        longer.clock = data.clock.rows_between(0, origin + 2)
        assert_same(forecaster.forecast(longer).point[0], point[i, 1])


@pytest.mark.parametrize("loss", ["gaussian", "student-t", "quantiles"])
def test_a_forecast_does_not_depend_on_the_others_asked_with_it(rng, loss):
    data = series.Series(np.sin(np.arange(120) / 3) + rng.normal(size=120) / 5, ["x"])
    settings = {**SMALL, "epochs": 1, "paths": 9}
    forecaster = series.Forecaster("x", 5, method="recursive", loss=loss, **settings).fit(data)
    origins = [70, 101, 88]
    together = forecaster.predict(data, origins)
    for i, origin in enumerate(origins):
        alone = forecaster.predict(data, [origin])
        for a, b in zip(alone, together, strict=True):
            assert_same(b[i], a[0])


@pytest.mark.parametrize("loss", ["quantiles", "gaussian", "student-t"])
def test_recursive_draws_repeat_with_the_seed_and_spread_with_the_horizon(rng, loss):
    data = series.Series(np.cumsum(rng.standard_normal(300)), ["x"])
    settings = SMALL | {"epochs": 6}
    forecaster = series.Forecaster("x", 12, method="recursive", loss=loss, **settings)
    forecaster.fit(data, stop=250)
    one, two = forecaster.forecast(data), forecaster.forecast(data)
    assert_close(one.quantiles, two.quantiles, "exact")
    low, high = one.interval(0.8)
    assert (high - low)[-1, 0] > 1.5 * (high - low)[0, 0]


# -------------------------------------------------------------------------------- many columns, log


def test_several_targets_are_forecast_together_and_judged_each(rng):
    data = wavy(rng)
    forecaster = series.Forecaster(["x", "p"], 4, known=["k"], loss="gaussian", **SMALL)
    report = series.backtest(forecaster.fit(data, stop=180), data)
    assert report.point.shape == (57, 4, 2) and set(report.scores) == {"x", "p"}
    assert "p: the model's" in repr(report)
    assert forecaster.forecast(data.rows(0, 200), origin=190).to_csv is not None


def test_a_logarithm_keeps_forecasts_positive_and_is_refused_for_others(rng):
    growth = series.Series(np.exp(np.cumsum(0.05 * rng.standard_normal(300))), ["x"])
    forecaster = series.Forecaster("x", 5, log=True, **SMALL).fit(growth, stop=250)
    assert (forecaster.forecast(growth).quantiles > 0).all()
    with pytest.raises(ValueError, match="logarithm needs values above zero; column 'x'"):
        series.Forecaster("x", 5, log=True, **SMALL).fit(series.Series(np.arange(-5.0, 95), ["x"]))


def test_the_future_of_known_covariates_is_taken_from_rows_without_a_target(rng):
    data = wavy(rng, gaps=False)
    data.values[230:, :2] = np.nan
    forecaster = series.Forecaster("x", 8, known=["k"], **SMALL).fit(data)
    assert forecaster.parts.validation == 230
    forecast = forecaster.forecast(data)
    assert str(forecast.time[0]).startswith("2024-01-10T14")
    with pytest.raises(ValueError, match="k must be known for the 8 rows after"):
        forecaster.forecast(data.rows(0, 235))


# ---------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize("loss", ["quantiles", "mae"])
def test_a_loaded_forecaster_makes_the_same_forecasts_and_trains_on(rng, tmp_path, loss):
    data = wavy(rng)
    forecaster = series.Forecaster("x", 5, past=["p"], known=["k"], loss=loss, **SMALL)
    forecaster.fit(data, stop=180)
    forecaster.save(tmp_path / "m.safetensors")
    loaded = series.Forecaster.load(tmp_path / "m.safetensors")
    for a, b in zip(loaded.forecast(data, 200), forecaster.forecast(data, 200), strict=True):
        if isinstance(a, np.ndarray):
            assert_close(a, b, "exact")
    assert loaded.get_config() == forecaster.get_config()
    assert repr(series.backtest(loaded, data)) == repr(series.backtest(forecaster, data))


def test_a_file_of_another_model_or_with_damaged_settings_is_refused(fitted, tmp_path):
    forecaster, _ = fitted
    path = tmp_path / "m.safetensors"
    forecaster.save(path)

    def saved(change):
        model = Sequential.load(path)
        change(model.extras)
        model.save(tmp_path / "n.safetensors")
        return tmp_path / "n.safetensors"

    for change, message in [
        (lambda e: e.clear(), "not made by a forecaster"),
        (lambda e: e["forecaster"].pop("layout"), "damaged"),
        (lambda e: e["forecaster"]["settings"].update(horizon=7), "do not fit"),
        (lambda e: e["forecaster"]["settings"].update(spell="x"), "damaged"),
        (lambda e: e["forecaster"]["scaling"].update(mean=[1.0]), "do not fit"),
        (lambda e: e["forecaster"]["layout"].update(calendar=99), "do not fit"),
        (lambda e: e["forecaster"].update(unit="a"), "damaged"),
        (lambda e: e["forecaster"].update(widths=[1.0]), "do not fit"),
        (lambda e: e["forecaster"]["trained"].update(season=0), "do not fit"),
    ]:
        with pytest.raises(ValueError, match=message):
            series.Forecaster.load(saved(change))


def test_a_series_with_other_steps_or_without_the_columns_is_refused(fitted, rng):
    forecaster, data = fitted
    half = series.Series(
        data.values, data.columns, np.datetime64("2024-01-01T00:00") + 30 * np.arange(240)
    )
    with pytest.raises(ValueError, match=r"trained on steps of 1 hour.*30 minutes"):
        forecaster.forecast(half)
    with pytest.raises(ValueError, match="no column 'p'"):
        forecaster.forecast(wavy(rng, columns=("x",)))
    with pytest.raises(TypeError, match=r"expected a gru_np\.series\.Series"):
        forecaster.forecast(data.values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: series.Forecaster([]), "targets must name"),
        (lambda: series.Forecaster("x", known=["x"]), "one role"),
        (lambda: series.Forecaster("x", 0), "horizon must be at least 1"),
        (lambda: series.Forecaster("x", loss="l2"), "loss must be one of"),
        (lambda: series.Forecaster("x", method="both"), "method must be one of"),
        (lambda: series.Forecaster("x", past=["p"], method="recursive"), "future of the past"),
        (lambda: series.Forecaster("x", quantiles=[0.5]), "two levels"),
        (lambda: series.Forecaster("x").forecast(series.Series([1.0], ["x"])), "must be fitted"),
        (lambda: series.Forecaster("x", 9).fit(series.Series(range(20), ["x"])), "training rows"),
        (lambda: series.split(series.Series(range(9)), 0.5, 0.6), "leave none|rows and leave"),
        (lambda: series.windows(np.zeros(5), 4, 2), "need 6 rows"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------ small parts


def test_windows_hold_the_rows_their_index_says(rng):
    values = rng.standard_normal((30, 2))
    x, y, index = series.windows(values, 5, 3, stride=4, gap=2)
    for i, (a, b, c, d) in enumerate(index):
        assert_close(x[i], values[a : b + 1], "exact")
        assert_close(y[i], values[c : d + 1], "exact")
        assert c == b + 3
    assert index[-1, 3] <= 29 < index[-1, 3] + 4


def test_naive_forecasts_equal_their_definitions(rng):
    values, m, H = rng.standard_normal((40, 2)), 7, 10
    origins = np.array([20, 33])
    found = series.naive_forecasts(values, origins, H, m)
    for i, t in enumerate(origins):
        for h in range(1, H + 1):
            back = m * -(-h // m)
            slope = (values[t] - values[0]) / t
            assert_close(found["persistence"][i, h - 1], values[t], "exact")
            assert_close(found["drift"][i, h - 1], values[t] + h * slope, "naive")
            assert_close(found["seasonal naive"][i, h - 1], values[t + h - back], "exact")
            expected = values[t + h - back] + back * slope
            assert_close(found["seasonal + drift"][i, h - 1], expected, "naive")


def test_what_is_carried_comes_from_the_same_phase(rng):
    values = rng.standard_normal((20, 1))
    holes = values.copy()
    holes[[3, 8, 13, 14]] = np.nan
    filled = carry(holes, 5)
    assert np.isnan(filled[3]).all() and np.isnan(filled[[8, 13]]).all()
    assert_close(filled[14], values[9], "exact")
    assert_close(carry(holes)[14], values[12], "exact")


def test_interpolated_quantiles_are_exact_for_a_normal_distribution():
    levels, wanted = [0.025, 0.1, 0.5, 0.9, 0.975], [0.01, 0.2, 0.5, 0.85]
    from gru_np.likelihoods import normal_quantiles

    found = (3 + 2 * normal_quantiles(levels)) @ scores.quantile_weights(levels, wanted)
    assert_close(found, 3 + 2 * normal_quantiles(wanted), "naive")


def test_scores_equal_hand_computed_ones(rng):
    y, x = np.array([1.0, 2.0, np.nan]), np.array([2.0, 4.0, 9.0])
    assert scores.mae(y, x) == 1.5 and scores.rmse(y, x) == np.sqrt(2.5)
    assert abs(scores.smape(y, x) - 200 * (1 / 3 + 2 / 6) / 2) < 1e-12
    assert scores.smape(np.zeros(2), np.zeros(2)) == 0
    # The CRPS of N(0, 1) at its mean is (√2 - 1) / √π.
    from gru_np.likelihoods import normal_quantiles

    levels = (np.arange(2000) + 0.5) / 2000
    crps = scores.crps(np.zeros(1), normal_quantiles(levels)[None], levels)
    assert abs(crps - (np.sqrt(2) - 1) / np.sqrt(np.pi)) < 1e-4


@pytest.mark.parametrize("kind", ["gaussian", "student-t", "quantiles"])
def test_draws_have_the_quantiles_of_the_head(rng, kind):
    head = Head(kind)
    out = np.sort(rng.standard_normal(head.size))
    draws = head.draw(np.tile(out, (20000, 1)), rng)
    levels = [0.1, 0.5, 0.9]
    share = (draws[:, None] < head.quantiles(out, levels)).mean(axis=0)
    assert np.abs(share - levels).max() < 5 * np.sqrt(0.25 / 20000)  # five standard errors


def test_mackey_glass_satisfies_its_equation():
    x = series.mackey_glass(4000)["x"]
    assert 0.2 < x.min() < 0.6 and 1.2 < x.max() < 1.5
    # dx/dt by central differences of a unit step: second order in 1
    slope = (x[2:] - x[:-2]) / 2
    delayed = x[17 - 16 : -17 - 1 + 0]
    right = 0.2 * delayed / (1 + delayed**10) - 0.1 * x[18 : -1 + 0]
    assert np.abs(slope[17:] - right).mean() < 0.02 * np.abs(right).mean() + 2e-3


# ----------------------------------------------------------------------------------- the command


@pytest.fixture
def csv(tmp_path, rng):
    data = wavy(rng)
    lines = ["time,x,p,k"]
    for time, row in zip(data.clock.times(), data.values, strict=True):
        cells = ["" if np.isnan(v) else f"{v:.4f}" for v in row]
        lines.append(",".join([str(time).replace("T", " ")[:16], *cells]))
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines))
    return path


def test_the_command_trains_judges_forecasts_saves_and_uses_the_model(csv, tmp_path, capsys):
    model, table = tmp_path / "m.safetensors", tmp_path / "out.csv"
    args = ["forecast", str(csv), "--target", "x", "--past", "p", "--horizon", "5", "--units", "6"]
    args += ["--epochs", "2", "--lookback", "24", "--save", str(model), "--output", str(table)]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    for words in ("step 1 hour", "values are missing", "Trained on", "persistence",
                  "seasonal naive", "80 % interval", "2024-01-11 00:00"):  # fmt: skip
        assert words in out
    rows = table.read_text().splitlines()
    assert rows[0] == "time,x,x low 80%,x high 80%" and len(rows) == 6
    assert cli.main(["forecast", str(csv), "--model", str(model)]) == 0
    again = capsys.readouterr().out
    assert "Trained" not in again and out.split("interval\n")[1].split("The model")[0] in again
    assert cli.main(["forecast", str(csv), "--model", str(model), "--target", "p"]) == 2
    assert "trained for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--known", "k"], "k must be known for the 24 rows after the last value of x"),
        (["--test", "0.02"], "rows after the first origin are too few for a horizon of 24"),
    ],
)
def test_what_no_forecast_can_be_made_of_is_refused_before_training(
    csv, options, message, capsys, monkeypatch
):
    def train(*args, **settings):
        raise AssertionError("trained")

    monkeypatch.setattr(series.Forecaster, "fit", train)
    assert cli.main(["forecast", str(csv), "--target", "x", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_demo_needs_no_file(capsys):
    args = ["forecast", "--demo", "--epochs", "1", "--units", "4", "--lookback", "16"]
    assert cli.main([*args, "--horizon", "3", "--stride", "10"]) == 0
    assert "Mackey-Glass" in capsys.readouterr().out


def test_pictures_are_drawn(csv, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "a.png"
    args = [
        "forecast",
        str(csv),
        "--target",
        "x",
        "--horizon",
        "5",
        "--units",
        "4",
        "--epochs",
        "1",
    ]
    assert cli.main([*args, "--lookback", "16", "--plot", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_residuals_are_drawn_in_three_ways(fitted):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    forecaster, data = fitted
    axes = series.plot_residuals(series.backtest(forecaster, data))
    assert len(axes) == 3 and "autocorrelation" in axes[2].get_title()
    axes[0].figure.clear()
    import matplotlib.pyplot as plt

    plt.close("all")


def test_without_matplotlib_the_extra_is_named(csv, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["forecast", str(csv), "--target", "x", "--plot", "a.png"]) == 2
    assert "gru_np[plot]" in capsys.readouterr().err


def test_the_command_works_without_numba_and_tqdm(csv):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numba', 'tqdm', 'matplotlib'])); "
        "from gru_np.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    args = [
        "forecast",
        str(csv),
        "--target",
        "x",
        "--horizon",
        "3",
        "--units",
        "4",
        "--epochs",
        "1",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *args, "--lookback", "16"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
