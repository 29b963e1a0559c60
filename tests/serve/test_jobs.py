"""The requests: a job from its upload to its results, the queue, and what becomes of jobs that nobody waits for."""

import io
import json
import time

import pytest
from PIL import Image

from lanpaint.serve.jobs import Limits
from lanpaint.serve.work import recipe
from tests.serve.conftest import SHELF, StubPainter, png, send, serving, wait


def test_a_job_goes_from_upload_to_result(client):
    job = send(client, settings={"count": 2, "seed": 5})
    assert job.status_code == 202
    assert job.headers["location"] == f"/api/jobs/{job.json()['id']}"
    done = wait(client, job.json(), "done")
    assert [result["seed"] for result in done["results"]] == [5, 6]
    answer = client.get(done["results"][1]["url"])
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.getpixel((0, 0)) == (200, 40, 90)
    assert picture.getpixel((5, 5)) == (0, 0, 0)


def test_events_end_with_the_job(client):
    job = send(client).json()
    with client.stream("GET", f"/api/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done"
    made = [(len(one["results"]), one["made"]) for one in told]
    assert made == sorted(made)


def test_a_waiting_job_is_cancelled_at_once_and_never_painted(client, painter):
    painter.gate.clear()
    first, second = send(client).json(), send(client).json()
    wait(client, first, "running")
    assert client.get(f"/api/jobs/{second['id']}").json()["place"] == 1
    assert client.delete(f"/api/jobs/{second['id']}").json()["state"] == "cancelled"
    painter.gate.set()
    wait(client, first, "done")
    assert len(painter.names) == 1


def test_cancelling_stops_within_one_evaluation(client, painter):
    painter.gate.clear()
    job = send(client, settings={"count": 3}).json()
    wait(client, job, "running")
    client.delete(f"/api/jobs/{job['id']}")
    wait(client, job, "cancelled")
    painter.gate.set()
    assert painter.evaluations == 0
    wait(client, send(client).json(), "done")  # the worker goes on


def test_errors_of_a_painter_are_one_line_and_tell_no_secrets(client, capsys):
    told = wait(client, send(client, settings={"model": "pipe", "prompt": "diverge"}).json(), "failed")["error"]
    assert told == "the state is no longer finite"
    told = wait(client, send(client, settings={"model": "pipe", "prompt": "name"}).json(), "failed")["error"]
    assert told == "the image picture.png cannot be read"
    told = wait(client, send(client, settings={"model": "pipe", "prompt": "break"}).json(), "failed")["error"]
    assert "secret" not in told
    assert "RuntimeError" in told
    assert "\n" not in told


def test_one_job_at_a_time_per_device():
    for devices in (1, 2):
        painter = StubPainter()
        with serving(painter, devices) as client:
            painter.gate.clear()
            jobs = [send(client, name=f"c{n}").json() for n in range(4)]
            time.sleep(0.1)
            painter.gate.set()
            for job in jobs:
                wait(client, job, "done")
        assert painter.most == devices


def test_clients_take_turns(client, painter):
    painter.gate.clear()
    jobs = [send(client, name=name).json() for name in ("a", "a", "a", "a", "b", "b", "c")]
    wait(client, jobs[0], "running")
    painter.gate.set()
    for job in jobs:
        wait(client, job, "done")
    assert painter.names == ["a", "a", "b", "c", "a", "b", "a"]  # the first was taken before the others came


def test_beyond_the_bounds_of_the_queue_clients_are_told_to_come_again(painter):
    with serving(painter, limits=Limits(waiting=3, waiting_each=2)) as client:
        painter.gate.clear()
        wait(client, send(client, name="a").json(), "running")
        assert [send(client, name="a").status_code for _ in range(3)] == [202, 202, 429]
        assert send(client, name="b").status_code == 202
        answer = send(client, name="c")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert len(answer.json()["error"].splitlines()) == 1
        painter.gate.set()


def test_a_job_that_nobody_asks_for_is_cancelled(painter):
    with serving(painter, limits=Limits(patience=0.3)) as client:
        painter.gate.clear()
        running, waiting = send(client).json(), send(client).json()
        time.sleep(1.2)
        assert [client.get(f"/api/jobs/{job['id']}").json()["state"] for job in (running, waiting)] == ["cancelled"] * 2


def test_a_job_that_is_asked_for_is_kept(painter):
    with serving(painter, limits=Limits(patience=0.4)) as client:
        painter.gate.clear()
        job = send(client).json()
        for _ in range(12):
            time.sleep(0.1)
            assert client.get(f"/api/jobs/{job['id']}").json()["state"] in ("running", "waiting")
        painter.gate.set()


def test_jobs_are_forgotten_with_their_files_when_their_clients_have_left(painter):
    with serving(painter, limits=Limits(kept=2, patience=1.0)) as client:
        jobs = [send(client).json() for _ in range(4)]
        for job in jobs:
            wait(client, job, "done")
        time.sleep(2.5)
        assert [client.get(f"/api/jobs/{job['id']}").status_code for job in jobs] == [404, 404, 200, 200]
        assert len(list(client.jobs.folder.iterdir())) == 2


def test_no_result_is_forgotten_while_its_client_may_still_fetch_it(painter):
    with serving(painter, limits=Limits(kept=1)) as client:
        jobs = [send(client).json() for _ in range(5)]
        for job in jobs:
            wait(client, job, "done")
        assert all(client.get(f"/api/jobs/{job['id']}/results/0").status_code == 200 for job in jobs)


def test_the_temporary_folder_is_removed_at_the_end(painter):
    with serving(painter) as client:
        painter.gate.clear()
        wait(client, send(client).json(), "running")
        folder = client.jobs.folder
        assert folder.is_dir()
    assert not folder.exists()


def test_models_document_and_page_of_the_interface_agree(client):
    table = client.get("/api/models").json()
    document = client.get("/api/openapi.json").json()
    properties = document["components"]["schemas"]["Settings"]["properties"]
    assert [setting["name"] for setting in table["settings"]] == list(properties)
    assert all(setting["help"].endswith(".") for setting in table["settings"])
    for path, operations in document["paths"].items():
        for verb in operations:
            answer = client.request(verb, path.format(id="none", number=0))
            assert answer.status_code != 405, (verb, path)
    page = client.get("/api").text
    assert all(path in page for path in document["paths"])
    assert all(f"<code>{name}</code>" in page for name in properties)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[1]", "JSON object"),
        ("{", "JSON object"),
        ('{"seed": NaN}', "finite"),
        ('{"seed": 1, "seed": 2}', "twice"),
        ("[" * 5000, "JSON"),
        ({"model": "/etc/passwd"}, "unknown model"),
        ({"model": "emoji-pixel"}, "unknown model"),
        ({"method": "os:system"}, "unknown method"),
        ({"dynamics": "os:system"}, "unknown dynamics"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"steps": "20"}, "integer"),
        ({"steps": True}, "integer"),
        ({"seed": -1}, "seed"),
        ({"seed": 10**400}, "seed"),
        ('{"seed": ' + "9" * 5000 + "}", "seed must be an integer"),
        ({"seed": 2**32 - 2, "count": 3}, "seed must be at most 4294967293"),
        ({"model": "pipe", "prompt": "\ud800"}, "half a character"),
        ({"model": "pipe", "negative_prompt": "a \udfff"}, "half a character"),
        ({"count": 1000}, "count"),
        ({"pad": [1, 2, 3]}, "pad"),
        ({"pad": [-1, 0, 0, 0]}, "pad"),
        ({"crop": 0.5}, "crop"),
        ({"crop": "x"}, "crop"),
        ({"prompt": "a cat"}, "pipeline"),
        ({"model": "pipe", "method": "dps"}, "gradient"),
        ({"model": "pipe", "prompt": "x" * 5000}, "characters"),
        ({"method": "replace", "lam": 3}, "replace has no lam"),
        ({"image": "../../etc/passwd"}, "unknown setting"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(client, settings, told):
    answer = send(client, settings=settings)
    assert answer.status_code == 422
    assert told in answer.json()["error"]
    assert len(answer.json()["error"].splitlines()) == 1


def test_a_large_picture_is_cropped_unless_told_otherwise(client):
    assert send(client, settings={}).json()["settings"]["crop"] is None
    large = {"picture": png((64, 48)), "mask": png((64, 48), 255, "L")}
    assert send(client, **large).json()["settings"]["crop"] == 2
    assert send(client, **large, settings={"crop": 3}).json()["settings"]["crop"] == 3
    assert send(client, **large, settings={"crop": "never"}).json()["settings"]["crop"] is None


def test_a_recipe_quotes_what_a_shell_would_take_apart(client):
    made = client.post("/api/recipe", json={"model": "pipe", "prompt": "a 'blue'; rm -rf $HOME", "seed": 2}).json()
    assert "--prompt 'a '\"'\"'blue'\"'\"'; rm -rf $HOME'" in made["command"]
    compile(made["python"], "recipe", "exec")


def test_a_recipe_is_for_all_settings_that_are_not_defaults():
    from lanpaint.serve.settings import table

    defaults = {name: setting.default for name, setting in table(list(SHELF)).items()}
    given = {**defaults, "crop": None, "soft": True, "pad": [1, 0, 2, 0], "lam": 3.5, "checkpoint": True, "count": 2}
    made = recipe(given, defaults, SHELF["pixels"], masked=False)
    for part in ("--soft-mask", "--pad 1,0,2,0", "--lam 3.5", "--checkpoint true", "--count 2", "--seed 0"):
        assert part in made["command"]
    assert "mask.png" not in made["command"]
    assert "'lam': 3.5" in made["python"]
