"""The log of those who were turned away cannot be made longer at will."""

from lateen.identity.complaints import MOST, SPAN_S, Complaints


def test_some_are_told_and_the_others_counted():
    complaints = Complaints()
    lines = [complaints.line(f"ipv4:10.0.0.1:{number}", 5.0) for number in range(MOST + 1000)]
    told = [line for line in lines if line is not None]
    assert len(told) == MOST
    assert told[0] == "no certificate for ipv4:10.0.0.1:0: it has not proved who it is"
    assert "nor had 1000 other callers before" in complaints.line("ipv4:10.0.0.2:1", 5.0 + SPAN_S)
    assert "other callers" not in complaints.line("ipv4:10.0.0.2:1", 5.0 + SPAN_S)


def test_a_clock_that_goes_back_silences_nothing():
    complaints = Complaints()
    for _ in range(MOST + 1):
        complaints.line("x", 1000.0)
    assert complaints.line("x", 10.0) is not None
