"""What the paper compares with, behind the same interface: whole documents put together by another rule."""

NAMES = ("concat", "knn", "iclm", "quest")
