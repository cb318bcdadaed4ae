"""linopy's labelled arrays, handed to HiGHS directly. Run by `bench_peers.py`; needs linopy, highspy."""

import linopy
import numpy as np
import xarray as xr
from script import Solve, Solved, main
from textbook import Instance


def _model(p: Instance) -> linopy.Model:
    sites, steps = p.size
    on = {"site": np.arange(sites), "step": np.arange(steps)}

    def table(values: object) -> xr.DataArray:
        return xr.DataArray(np.array(np.broadcast_to(values, p.size)), on, ("site", "step"))  # type: ignore[arg-type]

    def by_site(values: object) -> xr.DataArray:
        return xr.DataArray(np.array(values), {"site": on["site"]}, ("site",))

    m, hours, net = linopy.Model(), table(p.step_h), table(p.net_load_kw)
    sell, buy = table(p.export_price_per_kwh * p.step_h), table(p.import_price_per_kwh * p.step_h)
    charge = m.add_variables(0, table(p.most_charge), name="charge")
    discharge = m.add_variables(0, table(p.most_discharge), name="discharge")
    energy = m.add_variables(table(p.low[:, None]), table(p.high[:, None]), name="energy")
    imported = m.add_variables(0, np.inf, list(on.values()), dims=("site", "step"), name="imported")
    curtailed = m.add_variables(0, table(p.most_curtailed), name="curtailed")
    flow = charge - discharge + curtailed
    stored = charge * (hours * by_site(p.charge_efficiency)) - discharge * (hours / by_site(p.discharge_efficiency))
    begin = table(0.0)
    begin[:, 0] = p.start
    m.add_constraints(energy - energy.shift(step=1) - stored == begin, name="stored")
    m.add_constraints(imported - flow >= net, name="grid")
    limit = table(-p.export_limit_kw[:, None]) - net
    m.add_constraints(flow >= limit, name="export", mask=np.isfinite(limit))
    cost = (flow * sell + imported * (buy - sell) + discharge * (hours * by_site(p.wear_price_per_kwh))).sum()
    cost = cost - (energy.isel(step=-1) * by_site(p.terminal_value_per_kwh)).sum()
    for w, during in enumerate(p.demand_window):
        if during.any():
            peak = m.add_variables(by_site(p.peak_so_far_kw[:, w]), np.inf, name=f"peak{w}")
            m.add_constraints(peak - imported.isel(step=np.flatnonzero(during)) >= 0, name=f"peak{w}")
            cost = cost + (peak * by_site(p.demand_price_per_kw[:, w])).sum()
    m.add_objective(cost + _couple(m, p, (discharge - charge).isel(step=p.coupled).sum("site")))
    return m


def _couple(m: linopy.Model, p: Instance, delivered: linopy.LinearExpression) -> linopy.LinearExpression:
    at = {"step": p.coupled}

    def row(values: object) -> xr.DataArray:
        return xr.DataArray(np.array(values), at, ("step",))

    hours = p.step_h[p.coupled]
    short = m.add_variables(0, np.inf, [p.coupled], dims=("step",), name="short")
    met = delivered + short
    cost = (short * row(hours * p.shortfall_price_per_kwh[p.coupled])).sum()
    if p.priced_excess.any():
        over = m.add_variables(0, row(np.where(p.priced_excess, np.inf, 0.0)), name="over")
        met = met - over
        cost = cost + (over * row(hours * p.excess_price_per_kwh[p.coupled])).sum()
    if len(p.capacity_price_per_kw):
        windows = np.arange(len(p.capacity_price_per_kw))
        bid = m.add_variables(0, xr.DataArray(p.capacity_limit_kw, {"window": windows}, ("window",)), name="bid")
        share = xr.DataArray((p.window[:, None] == windows) * 1.0, {**at, "window": windows}, ("step", "window"))
        met = met - (bid * share).sum("window")
        cost = cost - (bid * xr.DataArray(p.capacity_price_per_kw, {"window": windows}, ("window",))).sum()
    m.add_constraints(met >= row(p.owed), name="coupling")
    if p.priced_excess.any():
        m.add_constraints(met <= row(p.owed), name="no_more", mask=row(p.priced_excess))
    return cost


def build(problem: Instance, method: str, time_limit_s: float) -> Solve:
    m = _model(problem)

    def solve() -> Solved:
        status, why = m.solve("highs", io_api="direct", time_limit=time_limit_s, output_flag=False)
        bids = np.empty(0)
        if status != "ok":
            return Solved(False, why, None)
        values = m.solution
        if "bid" in values:
            bids = values["bid"].to_numpy()
        power = (values["charge"].to_numpy(), values["discharge"].to_numpy(), bids)
        return Solved(why == "optimal", why, power)

    return solve


if __name__ == "__main__":
    main(build)
