"""The extra `jinja`: a Jinja chat template is rendered."""

from lagent_llms.templates import load_template


def test_a_jinja_template():
    template = load_template(
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert template.render([{"role": "user", "content": " Hi "}]) == "<user>Hi<assistant>"
