"""Room openadr2: eiTarget and its kin, read and written. Called by the readers and writers of events, reports, opts.

A kind the domain has no name for is kept as OTHER with the element's name as its label; an area keeps its
corners (the numbers of gml:posList), an interface both its ends as `receipt|delivery`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from market.openadr2.names import EI, EMIX, GML, POWER
from market.openadr2.xml_in import content
from market.openadr2.xml_out import element, text
from vpp.domain.grid_event import Target, TargetKind

_KIND_OF = {
    f"{{{EI}}}venID": (TargetKind.VEN, ""),
    f"{{{EI}}}groupID": (TargetKind.GROUP, ""),
    f"{{{EI}}}groupName": (TargetKind.GROUP, "groupName"),
    f"{{{EI}}}resourceID": (TargetKind.RESOURCE, ""),
    f"{{{EI}}}partyID": (TargetKind.PARTY, ""),
}
_LEAF_OF = {"endDeviceAsset": "mrid", "meterAsset": "mrid", "aggregatedPnode": "node", "pnode": "node"} | {
    "serviceDeliveryPoint": "node"
}
_AREAS = {f"{{{EMIX}}}serviceArea": "serviceArea", f"{{{POWER}}}serviceLocation": "serviceLocation"}
_POLYGON = ("gml:FeatureCollection", "gml:location", "gml:Polygon", "gml:exterior", "gml:LinearRing")
_ORDER = (
    "aggregatedPnode",
    "endDeviceAsset",
    "meterAsset",
    "pnode",
    "serviceArea",
    "serviceDeliveryPoint",
    "serviceLocation",
    "transportInterface",
    "groupID",
    "groupName",
    "resourceID",
    "venID",
    "partyID",
)
_NAME_OF = {
    TargetKind.VEN: "venID",
    TargetKind.GROUP: "groupID",
    TargetKind.RESOURCE: "resourceID",
    TargetKind.PARTY: "partyID",
}


def read_targets(parent: Any) -> tuple[Target, ...]:
    """Return the addressees an EiTargetType names; () for None, which addresses everyone."""
    return () if parent is None else tuple(_read(part) for part in parent)


def _read(part: Any) -> Target:
    known = _KIND_OF.get(part.tag)
    if known is not None:
        return Target(known[0], content(part), known[1])
    if part.tag in _AREAS:
        corners = part.findtext(f".//{{{GML}}}posList") or ""
        return Target(TargetKind.OTHER, " ".join(corners.split()), _AREAS[part.tag])
    return Target(TargetKind.OTHER, "|".join(content(leaf) for leaf in part), part.tag.rpartition("}")[2])


def target_rank(tag: str) -> int:
    """Return where an element stands among those of an EiTargetType; unknown ones at the end."""
    name = tag.rpartition("}")[2]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def sayable(target: Target) -> bool:
    """Whether 2.0b has an element for this kind of addressee."""
    return _name(target) in _ORDER


def write_targets(name: str, targets: Iterable[Target]) -> str:
    """Return an EiTargetType element; addressees 2.0b has no element for are left out."""
    written = sorted(
        ((_ORDER.index(_name(target)), target) for target in targets if sayable(target)), key=lambda pair: pair[0]
    )
    return element(name, *(_write(target) for _, target in written))


def write_resources(name: str, resources: Sequence[str], others: Iterable[Target] = ()) -> str:
    """Return an EiTargetType of resources and others, or nothing where there are none."""
    targets = [*(Target(TargetKind.RESOURCE, resource) for resource in resources), *others]
    return write_targets(name, targets) if targets else ""


def _name(target: Target) -> str:
    if target.kind is TargetKind.GROUP and target.label == "groupName":
        return "groupName"
    return _NAME_OF.get(target.kind, target.label)


def _write(target: Target) -> str:
    name = _name(target)
    if target.kind is not TargetKind.OTHER:
        return text(f"ei:{name}", target.value)
    if name in _AREAS.values():
        inner = text("gml:posList", target.value)
        for step in reversed(_POLYGON):
            inner = element(step, inner)
        return element("emix:serviceArea" if name == "serviceArea" else "power:serviceLocation", inner)
    if name == "transportInterface":
        receipt, _, delivery = target.value.partition("|")
        ends = text("power:pointOfReceipt", receipt) + text("power:pointOfDelivery", delivery)
        return element("power:transportInterface", ends)
    return element(f"power:{name}", text(f"power:{_LEAF_OF[name]}", target.value))
