"""The app in the browser: what a model can do, by buttons and sliders; gradio above the library, and nothing below."""
