"""What the shared flags and the recipe's run facts become."""

from acclimate.cli.flags import make_context
from acclimate.context import CACHE_GB
from acclimate.recipe import Recipe

FLAGS = {"quiet": True, "device": "cpu"}


def test_the_recipe_says_how_much_of_the_disk_decoded_images_may_take():
    recipe = Recipe.load(assignments=["data.cache_gb=0.5", "seed=7"])
    here = make_context(FLAGS, recipe)
    assert (here.cache_gb, here.seed, here.device) == (0.5, 7, "cpu")
    assert make_context(FLAGS, Recipe()).cache_gb == CACHE_GB


def test_a_command_without_a_recipe_takes_the_defaults():
    here = make_context(FLAGS)
    assert (here.cache_gb, here.seed) == (CACHE_GB, 0)
