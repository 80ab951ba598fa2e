"""Trials as a table, and as a line."""

from acclimate.hyperparameter_search.study import FinishedTrial
from acclimate.hyperparameter_search.trial_table import describe_trial, to_csv

DONE = FinishedTrial(
    0, {"learning_rate": 0.00123456789, "head": "mlp"}, "done", 0.75, 0.5, 3, 1.25, "abc"
)
LOST = FinishedTrial(
    1, {"learning_rate": 5.0}, "diverged", seconds=2.0, note="loss is nan, at step 3."
)


def test_every_trial_has_a_line_and_what_is_unknown_is_empty():
    assert to_csv({"network": [DONE, LOST]}, ["learning_rate", "head"]) == (
        "phase,number,outcome,val_accuracy,val_loss,epochs,seconds,learning_rate,head,note\n"
        "network,0,done,0.75,0.5,3,1.25,0.00123457,mlp,\n"
        'network,1,diverged,,,0,2,5,,"loss is nan, at step 3."\n'
    )


def test_a_line_says_how_it_ended_and_with_what():
    assert describe_trial(DONE) == "val accuracy 0.750, 1 s; learning_rate 0.0012, head mlp"
    assert describe_trial(LOST) == "diverged after 0 epochs, 2 s; learning_rate 5"
