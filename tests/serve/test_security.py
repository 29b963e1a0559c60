"""What the server refuses: other hosts and origins, requests without the token, and hostile uploads."""

import io
import struct
import zipfile
import zlib

import pytest
from PIL import Image

from lanpaint.serve.guard import Guard
from lanpaint.serve.jobs import Limits
from tests.serve.conftest import mask_png, png, send, serving, wait

OWN = ["127.0.0.1:7860", "127.0.0.1", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.8.8.8:1"]
FOREIGN = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7:7860",
           "0x7f000001", "2130706433", "127.0.0.1@evil.example", "127.0.0.1:7860, evil.example", "", "[::ffff:8.8.8.8]",
           "localhost:99999999"]  # fmt: skip


def one_line(answer, *statuses):
    assert answer.status_code in statuses, answer.text
    told = answer.json()["error"]
    assert told
    assert len(told.splitlines()) == 1
    assert "Traceback" not in told
    assert "/tmp" not in told
    return told


@pytest.mark.parametrize("host", OWN)
def test_own_hosts_are_served(client, host):
    assert client.get("/api/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_was_made_to_resolve_here_gets_nothing(client, host):
    for path in ("/", "/api/models", "/assets/main.js"):
        one_line(client.get(path, headers={"Host": host}), 403)


def test_a_named_host_is_served_and_beyond_loopback_any_address():
    guard = Guard(None, names=["box.local"], loopback=False, token="t")
    assert all(guard.is_own(host) for host in ("box.local:7860", "192.168.0.7:7860", "[fe80::1]:80"))
    assert not guard.is_own("evil.example")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "file://"},
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
        {"Origin": ""},
        {"Origin": "javascript://127.0.0.1:7860"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_of_other_pages_are_refused(client, headers):
    one_line(client.get("/api/models", headers=headers), 403)
    files = {"picture": png(), "mask": mask_png()}
    one_line(client.post("/api/inpaint", files=files, headers=headers), 403)
    assert not client.jobs.jobs


def test_the_page_itself_may_ask_and_a_link_may_open_the_page(client):
    own = {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/models", headers=own).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_with_a_token_nothing_is_given_without_it(painter):
    with serving(painter, loopback=False, token="secret") as client:
        for path in ("/", "/api/models", "/assets/main.js", "/api/openapi.json", "/?token=wrong", "/?token="):
            one_line(client.get(path), 401)
        one_line(client.get("/api/models?token=secret"), 401)  # it would be in logs and links


def test_the_printed_address_sets_a_cookie_that_scripts_and_other_sites_cannot_use(painter):
    with serving(painter, loopback=False, token="secret") as client:
        answer = client.get("/?token=secret", follow_redirects=False)
        assert answer.status_code == 303
        with serving(painter, loopback=False, token="other") as other:  # on another port: browsers send it both cookies
            name = other.get("/?token=other", follow_redirects=False).headers["set-cookie"].split("=")[0]
        assert name != answer.headers["set-cookie"].split("=")[0]
        assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["set-cookie"].split("; "))
        assert client.get("/api/models").status_code == 200
        client.cookies.clear()
        for kind in ("Bearer", "bearer"):
            assert client.get("/api/models", headers={"Authorization": f"{kind} secret"}).status_code == 200


def test_every_answer_forbids_foreign_scripts_frames_and_sniffing(client):
    job = wait(client, send(client).json(), "done")
    for path in ("/", "/api", "/assets/main.js", "/api/models", "/nothing", job["results"][0]["url"]):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/assets/../app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/assets//etc/passwd", "/assets/index.html",
     "/assets/..\\app.py", "/assets/page.css%00.png", "/api/jobs/..%2f..%2fetc/results/0", "/api/jobs/x/results/-1",
     "/api/jobs/x/results/0/../../..", "/api/jobs/x/results/" + "9" * 5000, "/api/jobs/../models/x"],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(client, path):
    one_line(client.get(path), 404)


def test_a_result_has_one_address(client):
    job = wait(client, send(client).json(), "done")
    for number in ("1", "00", "-0", "+0", "0.0", "%C2%B2", "9" * 5000):
        one_line(client.get(f"/api/jobs/{job['id']}/results/{number}"), 404)


def test_a_wrong_method_is_refused(client):
    one_line(client.delete("/api/models"), 405)
    one_line(client.get("/api/inpaint"), 405)


def bomb_png(width=50_000, height=50_000):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + width // 8) * 64)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    whole = png()
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70 * 2**20)))
    return whole[:33] + bomb + whole[33:]


def saved(format_, **options):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 99, 200)).save(file, format_, **options)
    return file.getvalue()


def animated():
    file = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), (n, n, n)) for n in (0, 99)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("run.sh", "echo")
    return file.getvalue()


HOSTILE = {
    "a bomb": bomb_png,
    "a bomb of text": text_bomb,
    "an SVG with a script": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "HTML": lambda: b"<!doctype html><script>alert(1)</script>",
    "a PNG that is an archive too": lambda: png() + archive(),
    "a PNG that is a page too": lambda: png() + b"<script>alert(1)</script>",
    "a GIF that is an archive too": lambda: saved("GIF") + archive(),
    "a WebP that is a page too": lambda: saved("WEBP") + b"<script>alert(1)</script>",
    "a BMP that is an archive too": lambda: saved("BMP") + archive(),
    "a JPEG that is an archive too": lambda: saved("JPEG") + archive(),
    "a JPEG that is a page too": lambda: saved("JPEG") + b"<HTML><body>",
    "an animation": animated,
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n",
    "a TIFF": lambda: saved("TIFF"),
    "an ICO": lambda: saved("ICO"),
    "half a PNG": lambda: png((200, 200))[:60],
    "nothing": lambda: b"",
    "zeros": lambda: bytes(100_000),
    "a PNG of no width": lambda: bomb_png(0, 0),
    "a picture of 16 bits": lambda: png((16, 16), 70, "I;16"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_uploads_are_refused_in_one_line_and_leave_nothing(client, what):
    data = HOSTILE[what]()
    for role in ("picture", "mask"):
        if what.endswith("16 bits"):
            continue  # the painter tells it
        one_line(send(client, **{role: data}), 413, 415, 422)
    assert not client.jobs.jobs or what.endswith("16 bits")
    assert not list(client.jobs.folder.iterdir())


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_honest_pictures_of_all_formats_are_taken(client, format_):
    assert send(client, picture=saved(format_)).status_code == 202


def test_a_photo_that_lies_on_its_side_has_the_size_at_which_it_stands(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (16, 8)).save(file, "JPEG", exif=exif)
    assert send(client, picture=file.getvalue(), mask=mask_png((8, 16))).status_code == 202
    one_line(send(client, picture=file.getvalue(), mask=mask_png((16, 8))), 422)


def test_names_of_uploaded_files_are_never_used(client, painter):
    painter.gate.clear()
    files = {"picture": ("../../../../tmp/evil.sh", png()), "mask": ("/etc/passwd\0.png", mask_png())}
    job = client.post("/api/inpaint", files=files).json()
    folder = client.jobs.jobs[job["id"]].folder
    assert folder.parent == client.jobs.folder
    assert sorted(path.name for path in folder.iterdir()) == ["mask.png", "picture.png"]
    painter.gate.set()


def test_too_many_bytes_pixels_and_parts_are_refused(painter):
    with serving(painter, limits=Limits(upload_bytes=20_000, pixels=2000)) as client:
        one_line(send(client, picture=png() + bytes(30_000)), 413)
        one_line(client.post("/api/inpaint", content=(bytes(1000) for _ in range(50)),
                             headers={"Content-Type": "multipart/form-data; boundary=x"}), 413)  # fmt: skip
        assert "at most 2,000 pixels" in one_line(send(client, picture=png((50, 50))), 413)
        one_line(send(client, settings={"pad": [120, 0, 0, 0]}), 413)
        one_line(client.post("/api/recipe", content=b"x" * 70_000), 413)
        files = [("picture", png()), ("picture", png())]
        one_line(client.post("/api/inpaint", files=files), 422)
        one_line(client.post("/api/inpaint", files={"other": png()}), 422)
        one_line(client.post("/api/inpaint", json={}), 415)
        one_line(client.post("/api/inpaint", content=b"--x\r\nbroken", headers={
            "Content-Type": "multipart/form-data; boundary=x"}), 422)  # fmt: skip
        one_line(client.post("/api/inpaint", content=b"", headers={"Content-Type": "multipart/form-data"}), 422)


def test_a_mask_of_another_size_is_refused(client):
    assert "16×16" in one_line(send(client, mask=mask_png((16, 17))), 422)


def test_job_names_cannot_be_guessed(client):
    names = {send(client, name=f"c{n}").json()["id"] for n in range(20)}
    assert len(names) == 20
    assert all(len(name) >= 16 for name in names)
