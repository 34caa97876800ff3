"""The conversation of one inference: what the module sees, and what the client gets back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class Conversation:
    """
    Held only when the request brought a conversation: without one nothing of the answer is kept, so that a long stream
    does not grow the worker.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self.messages: list[Any] = parameters["conversation"]
        for message in self.messages:
            if isinstance(message, dict) and isinstance(message.get("content"), str):
                message["content"] = [{"type": "text", "text": message["content"]}]
        self._last_before = self.messages[-1] if self.messages else None
        self._texts: list[str] = []
        self._files: list[Any] = []
        self._wanted = True

    def add_text(self, text: str) -> None:
        self._texts.append(text)

    def add(self, item: dict[str, Any]) -> None:
        if item.get("_save_response") is False:
            self._wanted = False
        if item.get("text"):
            self._texts.append(item["text"])
        self._files.extend(item.get("files") or ())

    def finished(self) -> list[Any]:
        """The conversation with the assistant's reply in it once, unless the module said or did otherwise."""
        messages = self._parameters.get("conversation")
        if not isinstance(messages, list):
            messages = self.messages
        content: list[Any] = []
        text = "".join(self._texts)
        if text:
            content.append({"type": "text", "text": text})
        content.extend(self._files)
        if content and self._wanted and not self._appended_by_module(messages):
            messages.append({"role": "assistant", "content": content})
        return messages

    def _appended_by_module(self, messages: list[Any]) -> bool:
        last = messages[-1] if messages else None
        return isinstance(last, dict) and last.get("role") == "assistant" and last is not self._last_before


def prepare(parameters: dict[str, Any]) -> Optional[Conversation]:
    """Completes the parameters as modules expect them: a conversation of lists, and key_info."""
    if "key_info" not in parameters:
        parameters["key_info"] = {"Key": "nokey", "Groups": []}
    if isinstance(parameters.get("conversation"), list):
        return Conversation(parameters)
    parameters["conversation"] = []
    return None
