"use strict";
const root = document.documentElement;
const languages = [...new Set([...document.querySelectorAll("body [lang]")].map((part) => part.lang))];
const dark = matchMedia("(prefers-color-scheme: dark)");

function kept(key) {
  // A page that was opened from disk may have no storage.
  try { return localStorage.getItem(key); } catch { return null; }
}

function keep(key, value) {
  try { localStorage.setItem(key, value); } catch { return; }
}

function speak(language) {
  root.lang = language;
}

const theme = kept("report-theme");
if (theme) root.dataset.theme = theme;
document.getElementById("theme").addEventListener("click", () => {
  const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  keep("report-theme", root.dataset.theme);
});

if (languages.length > 1) {
  const wanted = kept("report-language") ?? navigator.language.slice(0, 2);
  if (languages.includes(wanted)) speak(wanted);
  document.getElementById("language").addEventListener("click", () => {
    speak(languages.find((language) => language !== root.lang));
    keep("report-language", root.lang);
  });
}
