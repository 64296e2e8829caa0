from lxml import etree

from broker.core.pointer import element_at, pointer_of

ROOT = etree.fromstring(
    b'<e xmlns="urn:a" xmlns:p="urn:a" xmlns:q="urn:q">'
    b"<h/><p:h/><h><x/><q:x/><x/></h><!-- --><only/></e>"
)


def test_a_pointer_names_elements_by_local_name_and_counts_only_where_it_must() -> None:
    assert pointer_of(ROOT) == "/e"
    assert pointer_of(ROOT[0]) == "/e/h[1]"
    assert pointer_of(ROOT[2][2]) == "/e/h[3]/x[2]"
    assert pointer_of(ROOT[2][1]) == "/e/h[3]/x"
    assert pointer_of(ROOT[4]) == "/e/only"


def test_a_path_of_libxml2_leads_to_its_element() -> None:
    tree = ROOT.getroottree()
    for element in ROOT.iter("*"):
        assert element_at(ROOT, tree.getpath(element)) is element


def test_a_path_that_leads_nowhere_stops_at_the_nearest_ancestor() -> None:
    assert element_at(ROOT, "") is ROOT
    assert element_at(ROOT, "/*/*[3]/*[9]") is ROOT[2]
    assert element_at(ROOT, "/*/z:h/*") is ROOT
