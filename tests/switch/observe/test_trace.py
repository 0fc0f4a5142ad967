"""The last messages of a link: bounded and masked."""

from __future__ import annotations

from switch import limits
from switch.observe.trace import Trace


def test_a_ring_keeps_the_last_masked_messages_of_each_link() -> None:
    trace = Trace(["unionpay", "kiosk"])
    for number in range(limits.TRACE_RING_MAX + 10):
        trace.record("unionpay", "out", f"{number} card 4111111111111111", number)
    kept = trace.last("unionpay")
    assert len(kept) == limits.TRACE_RING_MAX and kept[-1].wall_us == limits.TRACE_RING_MAX + 9
    assert kept[-1].direction == "out" and kept[-1].text.endswith("card 411111******1111")
    assert [traced.wall_us for traced in trace.last("unionpay", 2)] == [kept[-2].wall_us, kept[-1].wall_us]
    assert trace.last("unionpay", 0) == [] and trace.last("kiosk") == []


def test_an_unnamed_link_shares_one_ring_and_a_long_text_is_cut() -> None:
    trace = Trace(["unionpay"])
    for number in range(1000):
        trace.record(f"peer {number}", "in", "x" * 100_000, number)
    assert trace.links == ("unionpay", "other")
    assert len(trace.last("other")) == limits.TRACE_RING_MAX
    assert len(trace.last("other")[0].text) == limits.FRAME_SIZE_MAX
    assert trace.last("peer 1") == []
