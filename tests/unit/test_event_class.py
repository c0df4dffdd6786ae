"""A processed file carries C++ that hax compiles: what pax cannot have written is not given to it."""

import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from caxflow.errors import CaxflowError
from caxflow.processing import commands, eventclass, minitrees
from caxflow.targets import Run

RUN = Run("160315_1432")
# By the template of pax 6.11.2, with each kind of member.
PAX = """
#include "TFile.h"
#include "TTree.h"
#include "TObject.h"
#include "TString.h"
#include <vector>



#ifndef HIT
#define HIT\x20
\x20
class Hit : public TObject {

public:
\tFloat_t  area;
\tBool_t  is_rejected;
\tTString  xy_posrec_algorithm;

    ClassDef(Hit, 6112);
};

#endif


#ifndef EVENT
#define EVENT\x20
\x20
class Event : public TObject {

public:
\tstd::vector <Hit>  all_hits;
\tShort_t  lone_hits_per_channel[260];
\tLong64_t  start_time;
\tstd::vector <Int_t> s1s;

    ClassDef(Event, 6112);
};

#endif

"""
RUNS = 'int ran = gSystem->Exec("touch ran");'


def named(text, name=eventclass.KEY):
    made = uproot.models.TNamed.Model_TNamed.empty()
    made._bases = [uproot.models.TObject.Model_TObject.empty()]
    made._members.update(fName=name, fTitle=text)
    return made


def written(path, *texts):
    with uproot.recreate(path) as file:
        file.mktree("tree", {"event_number": "int64"})
        file["tree"].extend({"event_number": [0, 1]})
        for text in texts:
            file[eventclass.KEY] = named(text)
    return path


@pytest.mark.parametrize("texts", [(), (PAX,)])
def test_what_pax_writes_is_good(tmp_path, texts):
    eventclass.check(written(tmp_path / "run.root", *texts))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", RUNS),
        ("#include <vector>", '#include "/tmp/evil.h"'),
        ("#include <vector>", "#include <vector> \\\n" + RUNS),
        ("#define HIT\x20", f"#define HIT {RUNS}"),
        ("#ifndef HIT", "#ifndef HIT\n#pragma link C++ function x;"),
        ("Float_t  area;", f"Float_t  area; {RUNS}"),
        ("Float_t  area;", "Float_t  area = gSystem->Exec(0);"),
        ("Float_t  area;", "Hit() { gSystem->Exec(0); }"),
        ("Float_t  area;", "Float_t  area[gSystem->Exec(0)];"),
        ("TString  xy", "std::function<void()>  xy"),
        ("std::vector <Hit>", "std::vector <decltype(f())>"),
        ("public TObject {", "public Evil {"),
        ("6112", "f()"),
        ("#endif\n\n", f"#endif\r{RUNS}\n"),
        ("#endif\n\n", f"#endif\x0b{RUNS}\n"),
        ("#endif\n\n", "#endif\nÉvil x;\n"),
        ("#endif\n\n", "#endif\n" + "\n" * eventclass._LARGEST),
    ],
)
def test_what_pax_cannot_have_written_is_refused(tmp_path, old, new):
    text = PAX.replace(old, new, 1) if old else PAX + new
    with pytest.raises(CaxflowError, match="hax would compile and run it -> process the run again"):
        eventclass.check(written(tmp_path / "run.root", text))


def test_a_second_text_is_refused(tmp_path):
    with pytest.raises(CaxflowError, match="more than one"):
        eventclass.check(written(tmp_path / "run.root", RUNS, PAX))


def test_another_object_in_its_place_is_refused(tmp_path):
    path = written(tmp_path / "run.root")
    with uproot.update(path) as file:
        file[eventclass.KEY] = "a TObjString"
    with pytest.raises(CaxflowError, match="no text"):
        eventclass.check(path)


@given(st.text(alphabet='#<>"(){}=:;,\\/ \n\tab_TI1', max_size=40), st.integers(0, len(PAX)))
def test_nothing_that_calls_gets_through(tmp_path_factory, inserted, at):
    text = PAX[:at] + inserted + PAX[at:]
    accepted = all(
        not line.strip(" \t") or eventclass._LINE.fullmatch(line.strip(" \t")) for line in text.split("\n")
    )
    if accepted:
        outside = text.replace("ClassDef(", "")
        assert outside.count("(") == 0
        assert "=" not in outside
        assert "\\" not in outside


def test_no_program_sees_such_a_file(tmp_path):
    processed = written(tmp_path / f"{RUN}.root", PAX + RUNS)
    with pytest.raises(CaxflowError, match="which pax does not write: hax would compile"):
        minitrees.make_by_command(
            "Extended",
            minitrees.read_template(f"touch {tmp_path}/ran {{processed}}"),
            commands.Environment(),
            processed,
            minitrees.minitree_path(tmp_path / "minitrees", "v6.11.2", RUN, "Extended"),
            run=RUN,
            number=4242,
            pax_version="v6.11.2",
            workdir=tmp_path / "work",
            log=tmp_path / "log",
        )
    assert not (tmp_path / "ran").exists()
