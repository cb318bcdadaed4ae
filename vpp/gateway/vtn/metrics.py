"""What the VTN counts; read at `/metrics` of its process."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter("vpp_vtn2_messages_total", "Messages of VENs, by kind and response code", ["kind", "code"])
POLLS = Counter("vpp_vtn2_polls_total", "Polls of VENs that were answered with nothing to tell")
EVENTS_TOLD = Counter("vpp_vtn2_events_told_total", "Events told to VENs, repetitions included")
ANSWERS = Counter("vpp_vtn2_event_answers_total", "Answers of VENs to events, by what became of them", ["outcome"])
VALUES = Counter("vpp_vtn2_report_values_total", "Values VENs reported")
REGISTERED = Gauge("vpp_vtn2_registered_vens", "VENs registered at this VTN")
PUSHES = Counter("vpp_vtn2_pushes_total", "Messages pushed to VENs, by outcome", ["outcome"])
