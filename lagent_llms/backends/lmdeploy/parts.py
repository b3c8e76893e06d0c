"""The parts of contents that lmdeploy reads, in messages of which roles; equal in server and pipeline."""

from __future__ import annotations

from ...content_parts import AcceptedParts

__all__ = ["LMDEPLOY_PARTS"]

#: Of other roles lmdeploy does not read parts but text.
LMDEPLOY_PARTS = AcceptedParts(
    frozenset({"image_url", "audio_url", "video_url", "time_series_url"}), roles=frozenset({"user", "tool"})
)
