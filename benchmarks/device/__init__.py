"""Everything that needs a CUDA device, in parts that each run on their own: ``python -m benchmarks.device [PART ...]``.

A part is a module with a function ``reports(run)``, which yields its tables as far as they have come; they are written at
once, so that whoever is cut off has what was measured until then. What users measure themselves is ``mixstage bench``.
"""
