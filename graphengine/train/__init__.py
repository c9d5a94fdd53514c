"""From an executable and data to trained weights."""

from graphengine.train import metrics
from graphengine.train.callbacks import Callback, EarlyStopping
from graphengine.train.checkpoint import CheckpointWarning, load_checkpoint, save_checkpoint
from graphengine.train.checkpoint_folder import Checkpoint
from graphengine.train.evaluate import evaluate, predict
from graphengine.train.fit import fit
from graphengine.train.folds import CrossValidation, Fold, cross_validate
from graphengine.train.history import Epoch, History
from graphengine.train.metrics import Metric, confusion_matrix
from graphengine.train.transfer import transfer
from graphengine.train.weights_file import load_parameters, save_parameters

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointWarning",
    "CrossValidation",
    "EarlyStopping",
    "Epoch",
    "Fold",
    "History",
    "Metric",
    "confusion_matrix",
    "cross_validate",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_parameters",
    "metrics",
    "predict",
    "save_checkpoint",
    "save_parameters",
    "transfer",
]
