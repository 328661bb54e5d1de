// English and Korean texts of the annotation page. ?lang=ko in the address, or the browser, chooses; a button switches.
"use strict";

const LANGUAGES = ["en", "ko"];
const TEXTS = {
  title: ["Draw face boxes", "얼굴 박스 그리기"],
  drag: ["drag a box", "드래그해서 박스 그리기"],
  next: ["next", "다음"],
  back: ["back", "이전"],
  accept: ["accept suggestion", "제안 수락"],
  "no face": ["no face", "얼굴 없음"],
  clear: ["remove mark", "표시 지우기"],
  undo: ["undo", "실행 취소"],
  open: ["next unmarked", "다음 미완료 사진"],
  finish: ["Finish", "마치기"],
  box: ["box saved", "박스 저장됨"],
  suggestion: ["suggestion", "제안"],
  "no box": ["no box yet", "박스 없음"],
  "all marked": ["all marked", "모두 완료"],
  left: ["{} left", "{}장 남음"],
  fallback: ["fallback", "추정"],
  missing: ["missing", "읽기 실패"],
  detected: ["detected", "검출"],
  manual: ["manual", "수동 지정"],
  person: ["person", "같은 사람의 다른 사진 기준"],
  typical: ["typical", "전체 사진 기준"],
  centre: ["centre", "사진 중앙"],
  language: ["한국어", "English"],
  "hint next": ["Enter, Space or right arrow", "Enter, Space 또는 오른쪽 화살표"],
  "hint back": ["left arrow or Backspace", "왼쪽 화살표 또는 Backspace"],
  "hint clear": ["D or Delete", "D 또는 Delete"],
  "hint undo": ["U or Ctrl+Z", "U 또는 Ctrl+Z"],
  "hint open": ["next photo without a mark", "아직 표시하지 않은 다음 사진"],
  "hint canvas": ["the photo; drag a box over the face", "사진. 얼굴 위로 드래그해서 박스를 그립니다"],
  "hint progress": ["photos marked", "완료한 사진"],
  unreadable: ["{}", "이 사진은 읽을 수 없습니다."],
  finished: [
    "Finished. All marks are saved; you can close this page.",
    "마쳤습니다. 모든 표시가 저장되었으니 이 페이지를 닫아도 됩니다.",
  ],
  stopped: [
    "The command has stopped. Start it again and open the address it prints; what is marked is kept.",
    "명령이 종료되었습니다. 다시 실행한 뒤 출력된 주소를 여세요. 지금까지 표시한 것은 저장되어 있습니다.",
  ],
};

const wanted = new URLSearchParams(location.search).get("lang") || navigator.language.split("-")[0];
let language = LANGUAGES.includes(wanted) ? wanted : "en";

const say = (key) => (TEXTS[key] ? TEXTS[key][LANGUAGES.indexOf(language)] : key);

function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const id of ["next", "back", "clear", "undo", "open", "canvas", "progress"]) {
    document.getElementById(id)[id === "canvas" || id === "progress" ? "ariaLabel" : "title"] = say(`hint ${id}`);
  }
  document.getElementById("language").textContent = say("language");
  document.getElementById("language").lang = LANGUAGES.find((other) => other !== language);
}

function switchLanguage() {
  language = LANGUAGES.find((other) => other !== language);
  history.replaceState(null, "", `?lang=${language}`);
  translate();
}

translate();
