"""Languages that pages speak, and Korean names of what the project calls by an English word."""

LANGUAGES = ("en", "ko")
CHOICES = (*LANGUAGES, "both")
"""Values of --language."""
KOREAN_NAMES = {
    **{"mask": "마스크", "gender": "성별", "age": "연령대", "combined": "18개 클래스"},
    **{"wear": "착용", "incorrect": "잘못된 착용", "not_wear": "미착용", "male": "남성", "female": "여성"},
    **{"young": "청년층", "middle": "중년층", "old": "장년층"},
    **{"train": "학습", "oof": "out-of-fold", "eval": "평가"},
    **{"detected": "검출", "fallback": "추정", "manual": "수동 지정", "missing": "읽기 실패"},
}
"""Korean names of tasks, classes, splits and statuses. Other names stay as they are."""
