"""The annotation page's server: what it shows, what it saves, and whom it refuses, with real HTTP requests."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotate_toys import (
    BROKEN,
    FOUND,
    HEIGHT,
    LARGE,
    LARGE_SIZE,
    LISTED,
    PLAIN,
    SUGGESTION,
    TURNED,
    WIDTH,
    Client,
    make_folder,
    rows_of,
    serving,
)
from toy_data import refusal

from core.boxes import Box
from core.cli import UserError
from core.files import read_csv, write_csv
from preprocessing import annotate_faces, detect_faces
from preprocessing.annotation import no_face_path_of
from preprocessing.fallback_boxes import read_manual
from storage.crops import faces_path
from storage.layouts import scan

ROOT = Path(__file__).resolve().parents[1]
HEADER = "image_id,x1,y1,x2,y2"


@pytest.fixture(scope="module")
def crop_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("annotate"))


@pytest.fixture
def boxes_path(tmp_path: Path) -> Path:
    return tmp_path / "boxes.csv"


@pytest.fixture
def client(crop_dir: Path, boxes_path: Path) -> Iterator[Client]:
    with serving(crop_dir, boxes_path) as server:
        yield Client(server.url)


def test_it_shows_the_photos_that_are_not_detected(client: Client) -> None:
    photos = client.get("photos").json["photos"]
    assert [photo["image_id"] for photo in photos] == list(LISTED)
    assert photos[0] == {
        **{"number": 0, "image_id": PLAIN, "status": "fallback", "reason": "centre", "suggestion": list(SUGGESTION)},
        **{"box": None, "no_face": False},
    }
    assert photos[3]["suggestion"] is None


def test_a_photo_is_upright_and_its_size_is_told(client: Client) -> None:
    answer = client.get(f"photo/{LISTED.index(TURNED)}")
    assert (answer.headers["Photo-Width"], answer.headers["Photo-Height"]) == (str(WIDTH), str(HEIGHT))
    rgb = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert rgb[20, 20].tolist() == pytest.approx([255, 0, 0], abs=12)
    assert rgb[140, 100].tolist() == pytest.approx([127] * 3, abs=12)


def test_a_large_photo_is_shown_smaller_but_boxes_are_in_its_own_pixels(client: Client, boxes_path: Path) -> None:
    number = LISTED.index(LARGE)
    answer = client.get(f"photo/{number}")
    assert (answer.headers["Photo-Width"], answer.headers["Photo-Height"]) == tuple(map(str, LARGE_SIZE))
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR).shape == (1600, 1280, 3)
    assert client.post(f"mark/{number}", {"box": [100, 200, 2300, 2900.126]}).status == 200
    assert rows_of(boxes_path) == [HEADER, f"{LARGE},100,200,2300,2900.13"]


def test_an_unreadable_photo_says_why_and_takes_no_box(client: Client, boxes_path: Path) -> None:
    number = LISTED.index(BROKEN)
    answer = client.get(f"photo/{number}")
    assert (answer.status, "this photo cannot be read: " in answer.json["error"]) == (422, True)
    assert client.post(f"mark/{number}", {"box": [1, 2, 30, 40]}).status == 422
    assert client.post(f"mark/{number}", {"suggestion": True}).status == 400
    assert not boxes_path.exists()


def test_a_table_with_further_columns_is_refused(crop_dir: Path) -> None:
    before = faces_path(crop_dir).read_bytes()
    refusal(annotate_faces.main, ["--crop-dir", crop_dir, "--boxes", faces_path(crop_dir)], "would be lost")
    assert faces_path(crop_dir).read_bytes() == before


def test_every_mark_is_on_disk_at_once(client: Client, boxes_path: Path) -> None:
    no_face_path = no_face_path_of(boxes_path)
    assert client.post("mark/0", {"box": [10, 20.5, 60, 80]}).json["box"] == [10, 20.5, 60, 80]
    assert rows_of(boxes_path) == [HEADER, f"{PLAIN},10,20.5,60,80"]
    assert client.post("mark/1", {"suggestion": True}).json["box"] == list(SUGGESTION)
    assert rows_of(boxes_path)[2:] == [f"{TURNED},30,40,90,120"]
    assert client.post("mark/0", {"no_face": True}).json["no_face"] is True
    assert rows_of(boxes_path) == [HEADER, f"{TURNED},30,40,90,120"]
    assert rows_of(no_face_path) == ["image_id,drop", f"{PLAIN},"]
    assert client.post("mark/0", {"box": [1, 2, 3, 4]}).json["no_face"] is False
    assert rows_of(no_face_path) == ["image_id,drop"]
    client.post("mark/0", {})
    client.post("mark/1", {})
    assert rows_of(boxes_path) == [HEADER]


def test_undo_takes_back_one_change_after_the_other(client: Client, boxes_path: Path) -> None:
    client.post("mark/0", {"box": [10, 20, 60, 80]})
    client.post("mark/0", {"box": [10, 20, 60, 80]})
    client.post("mark/1", {"no_face": True})
    client.post("mark/0", {"no_face": True})
    states = [client.post("undo", {}).json for _ in range(3)]
    assert [(state["number"], state["box"], state["no_face"]) for state in states] == [
        (0, [10, 20, 60, 80], False),
        (1, None, False),
        (0, None, False),
    ]
    assert client.post("undo", {}).json == {"error": "nothing to undo"}
    assert rows_of(boxes_path) == [HEADER]


def test_a_later_session_goes_on_where_it_stopped(crop_dir: Path, boxes_path: Path) -> None:
    with serving(crop_dir, boxes_path) as server:
        Client(server.url).post("mark/0", {"box": [10, 20, 60, 80]})
        Client(server.url).post("mark/2", {"no_face": True})
    with serving(crop_dir, boxes_path) as server:
        photos = Client(server.url).get("photos").json["photos"]
        assert [(photo["box"], photo["no_face"]) for photo in photos] == [
            *(([10, 20, 60, 80], False), (None, False), (None, True), (None, False)),
        ]
        assert server.annotation.left() == 2


def test_rows_of_other_photos_and_of_another_program_are_kept(client: Client, boxes_path: Path) -> None:
    boxes_path.write_text(f"{HEADER}\n{FOUND},1,2,30,40\n", encoding="utf-8")
    client.post("mark/0", {"box": [10, 20, 60, 80]})
    assert rows_of(boxes_path) == [HEADER, f"{FOUND},1,2,30,40", f"{PLAIN},10,20,60,80"]
    boxes_path.write_text(f"{HEADER}\n{PLAIN},5,6,70,80\n", encoding="utf-8")
    assert client.get("photos").json["photos"][0]["box"] == [5, 6, 70, 80]


def test_a_table_that_was_damaged_meanwhile_is_not_overwritten(client: Client, boxes_path: Path) -> None:
    boxes_path.write_text("image_id,x1\nb.png,1\n", encoding="utf-8")
    answer = client.post("mark/0", {"box": [10, 20, 60, 80]})
    assert (answer.status, "column y1, x2, y2 is missing" in answer.json["error"]) == (500, True)
    assert rows_of(boxes_path) == ["image_id,x1", "b.png,1"]


def test_marks_of_many_requests_at_once_are_all_kept(client: Client, boxes_path: Path) -> None:
    wishes = [(number, {"box": [number, number, 60 + number, 80]}) for number in range(3)]
    threads = [threading.Thread(target=client.post, args=(f"mark/{number}", wish)) for number, wish in wishes * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rows_of(boxes_path)[1:]) == [f"{PLAIN},0,0,60,80", f"{TURNED},1,1,61,80", f"{LARGE},2,2,62,80"]


def test_detect_faces_reads_the_table(client: Client, crop_dir: Path, boxes_path: Path) -> None:
    client.post("mark/0", {"box": [10, 20.25, 60, 80]})
    client.post("mark/1", {"suggestion": True})
    dataset = scan(crop_dir.parent / "photos")
    assert read_manual(boxes_path, dataset) == {PLAIN: Box(10, 20.25, 60, 80), TURNED: SUGGESTION}
    assert detect_faces.parse_args(["--manual", str(boxes_path)]).manual == boxes_path


@pytest.mark.parametrize(
    "wish",
    [
        *({"box": box} for box in ([1, 2, 3], [1, 2, 1.5, 40], [1, 40, 30, 2], [30, 2, 1, 40], "1234", None)),
        *({"box": box} for box in ([-1, 2, 30, 40], [1, 2, WIDTH + 1, 40], [1, 2, 30, HEIGHT + 1], [True, 2, 30, 40])),
        *({"box": box} for box in (["1", 2, 30, 40], [[1], 2, 30, 40], [1, 2, 30, 10**350])),
        *(b'{"box": [1, 2, NaN, 40]}', b'{"box": [1, 2, Infinity, 40]}', b"{", b"\xff", b"", b"[" * 500),
        *({"no_face": False}, {"no_face": "yes"}, {"box": [1, 2, 30, 40], "no_face": True}, [], 5, {"path": "x"}),
    ],
    ids=str,
)
def test_a_wish_that_is_none_is_refused(client: Client, boxes_path: Path, wish: object) -> None:
    assert client.post("mark/0", wish).status == 400
    assert not boxes_path.exists()


@pytest.mark.parametrize(
    "path",
    [
        *("photo/4", "photo/-1", "photo/999999999", "photo/1/", "photo/", "photo/0x1", "photo/0/../1", "photo/%30"),
        *("photo/../../secret.jpg", "photo/..%2f..%2fsecret.jpg", "../secret.jpg", "secret.jpg", "index.html", "boxes"),
        *("page.js/../page.css", "/etc/passwd", "photo/%D9%A1", "photo/0?x=1", "photo/0#", "mark/0", "finish"),
    ],
)
def test_nothing_but_the_page_and_the_listed_photos_is_served(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.json["error"]) in ((404, "no such page"), (404, "no such photo"))


def test_the_address_holds_a_secret(client: Client) -> None:
    for target in ("/", "/photos", "/wrong/photos", "//photos", "/%C3%A4/photos", "photos", "*"):
        assert client.get(target, raw=True).status == 403, target
    absolute = f"http://{client.host}{client.home}photos"
    assert client.get(absolute, raw=True).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "0.0.0.0", "", None, "127.0.0.1:80:80", "user@127.0.0.1"]
)
def test_a_foreign_host_gets_nothing(client: Client, host: str | None) -> None:
    assert client.get("photos", headers={"Host": host}).status == 403
    assert client.get("photo/0", headers={"Host": host}).status == 403


def test_a_forwarded_port_of_this_machine_is_no_foreign_host(client: Client) -> None:
    ours = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    assert client.get("photos", headers=ours).status == 200
    assert client.post("mark/0", {"no_face": True}, headers=ours).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "https://127.0.0.1", None, "http://localhost"]
)
def test_a_foreign_origin_changes_nothing(client: Client, boxes_path: Path, origin: str | None) -> None:
    headers = {"Origin": origin}
    assert client.post("mark/0", {"box": [1, 2, 30, 40]}, headers=headers).status == 403
    assert client.post("undo", {}, headers=headers).status == 403
    assert client.post("finish", {}, headers=headers).status == 403
    assert not boxes_path.exists()


def test_a_foreign_origin_reads_nothing(client: Client) -> None:
    answer = client.get("photos", headers={"Origin": "http://evil.example"})
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "513"}, 413),
        ({"Content-Length": "99999999999999"}, 413),
        ({"Content-Length": None}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "ten"}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
    ],
    ids=str,
)
def test_a_body_of_another_size_or_type_is_refused_unread(
    client: Client, boxes_path: Path, headers: dict[str, str | None], status: int
) -> None:
    assert client.post("mark/0", {"no_face": True}, headers=headers).status == status
    assert not no_face_path_of(boxes_path).exists()


def test_other_methods_are_unknown(client: Client) -> None:
    assert client.send("PUT", f"{client.home}mark/0", None, {"Host": client.host}).status == 501


def test_answers_may_not_be_embedded_or_kept(client: Client) -> None:
    for path in ("", "?lang=ko", "page.js", "texts.js", "page.css", "photos", "photo/0"):
        headers = client.get(path).headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Python" not in headers["Server"]


def test_it_listens_on_this_machine_alone(crop_dir: Path, boxes_path: Path) -> None:
    with serving(crop_dir, boxes_path) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_list_or_a_status_says_which_photos(crop_dir: Path, boxes_path: Path, tmp_path: Path) -> None:
    listed = tmp_path / "listed.csv"
    listed.write_text(f"why,image_id\nx,{LARGE}\nx,{FOUND}\nx,{LARGE}\n", encoding="utf-8")
    with serving(crop_dir, boxes_path, "--list", str(listed)) as server:
        assert [photo["image_id"] for photo in Client(server.url).get("photos").json["photos"]] == [LARGE, FOUND]
    with serving(crop_dir, boxes_path, "--status", "missing", "detected") as server:
        assert [photo["image_id"] for photo in Client(server.url).get("photos").json["photos"]] == [FOUND, BROKEN]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--status", "lost"], r"--status 'lost': allowed is detected, fallback, manual, missing"),
        (["--list", "nowhere.csv"], r"nowhere.csv: no such file"),
        (["--port", "70000"], r"--port 70000: allowed is 0 to 65535"),
        (["--boxes", "boxes.jpg"], r"--boxes boxes.jpg: must be a file that ends in .csv"),
        (["--crop-dir", "nowhere"], r"crop folder nowhere: no faces.csv in it"),
    ],
)
def test_bad_flags_are_named(crop_dir: Path, flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        annotate_faces.main(["--crop-dir", str(crop_dir), *flags])


def test_a_list_with_a_photo_of_another_folder_is_refused(crop_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image_id\nb.png\nnobody.png\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"list.csv row 3: image_id 'nobody.png' is not in .*faces.csv"):
        annotate_faces.main(["--crop-dir", str(crop_dir), "--list", str(tmp_path / "list.csv")])


def test_a_path_in_faces_csv_that_is_no_photo_of_the_data_is_refused(tmp_path: Path) -> None:
    crop_dir = make_folder(tmp_path)
    frame = read_csv(faces_path(crop_dir), ("path",))
    write_csv(faces_path(crop_dir), frame.replace({"path": {PLAIN: "../secret.jpg"}}))
    with pytest.raises(UserError, match=r"^\.\./secret\.jpg: no photo of .*photos; run"):
        annotate_faces.main(["--crop-dir", str(crop_dir)])


def test_a_port_in_use_is_named(crop_dir: Path, boxes_path: Path) -> None:
    with (
        serving(crop_dir, boxes_path) as server,
        pytest.raises(UserError, match=rf"--port {server.server_port}: cannot be used"),
    ):
        annotate_faces.main(["--crop-dir", str(crop_dir), "--port", str(server.server_port)])


def test_with_nothing_to_draw_it_says_so(crop_dir: Path, capsys: pytest.CaptureFixture) -> None:
    annotate_faces.main(["--crop-dir", str(crop_dir), "--status", "manual"])
    assert "no photo of status manual, nothing to draw" in capsys.readouterr().out


@pytest.mark.parametrize(("end", "code"), [("finish", 0), ("interrupt", 130)])
def test_the_command_ends_with_a_summary(crop_dir: Path, boxes_path: Path, end: str, code: int) -> None:
    command = [sys.executable, "preprocessing/annotate_faces.py", "--crop-dir", str(crop_dir), "--boxes", boxes_path]
    # A test run in the background of a shell ignores Ctrl-C, and so would what it starts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heeding) as process:
        line = process.stdout.readline()
        client = Client(re.search(r"4 photos, 4 without a mark; open (http://\S+/)", line)[1])
        client.post("mark/0", {"box": [1, 2, 30, 40]})
        client.post("mark/1", {"no_face": True})
        if end == "finish":
            assert client.post("finish", {}).status == 200
        else:
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert f"2 of 4 photos marked: {boxes_path}" in out
    assert f"next: python preprocessing/detect_faces.py --crop-dir {crop_dir} --manual {boxes_path}" in out
    assert f"python train.py --label-fixes {no_face_path_of(boxes_path)}" in out
