@echo off
rem All steps from photos to submission.csv:  run_all.bat --help
rem If this Python lacks packages, .venv is made, and run_all.py called in it.
setlocal
if not defined PYTHON set "PYTHON=python"
"%PYTHON%" "%~dp0scripts\install.py" --run train "%~dp0run_all.py" %*
