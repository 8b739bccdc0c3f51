"""The browser app: a model's functions behind buttons and sliders, built with gradio on top of the library."""
