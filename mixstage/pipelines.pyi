from pipelines import dali as dali
from pipelines import ffcv as ffcv
