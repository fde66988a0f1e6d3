"""Images by Pillow; what of sound and film these need, by ffmpeg where it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

Doc = dict[str, Any]
PIXELS_MAX = 200_000_000
LOCAL = ("-protocol_whitelist", "file")  # a playlist must not make it open anything else
FLAT = {".jpg", ".jpeg", ".bmp"}  # formats without transparency
LOSSY = {".jpg", ".jpeg", ".webp", ".avif"}

Image.MAX_IMAGE_PIXELS = PIXELS_MAX // 2  # Pillow refuses at twice this


class Unusable(Exception):
    """The file does not allow it; the message says why."""


def opened(file: str) -> Image.Image:
    try:
        image = Image.open(file)
        image.load()
    except UnidentifiedImageError:
        raise Unusable(f"{file} is no image that Pillow reads") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise Unusable(f"{file}: {error}") from None
    return image


def save(image: Image.Image, params: Doc) -> Doc:
    out = Path(params["out"])
    ending = out.suffix.lower()
    if ending not in Image.registered_extensions():
        raise Unusable(f"{out}: there is no image format with that ending")
    if ending in FLAT and image.mode not in ("RGB", "L"):
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    try:
        image.save(out, **({"quality": params["quality"]} if ending in LOSSY else {}))
    except (OSError, ValueError, KeyError) as error:
        raise Unusable(f"{out}: {error}") from None
    return {"out": str(out), "width": image.width, "height": image.height, "bytes": out.stat().st_size}


def inspect(params: Doc) -> Doc:
    file = Path(params["file"])
    try:
        with Image.open(file) as image:
            return {
                "kind": "image",
                "format": image.format,
                "width": image.width,
                "height": image.height,
                "mode": image.mode,
                "frames": getattr(image, "n_frames", 1),
                "bytes": file.stat().st_size,
            }
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError):
        pass
    told = json.loads(
        run("ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", *LOCAL, "-i", file)
    )
    about = told.get("format", {})
    return {
        "kind": "film"
        if any(each.get("codec_type") == "video" for each in told.get("streams", ()))
        else "sound",
        "format": about.get("format_name"),
        "duration_s": float(about.get("duration", 0)),
        "bytes": file.stat().st_size,
        "streams": [
            {
                key: each[key]
                for key in ("codec_type", "codec_name", "width", "height", "sample_rate", "channels")
                if key in each
            }
            for each in told.get("streams", ())
        ],
    }


def resize(params: Doc) -> Doc:
    image = ImageOps.exif_transpose(opened(params["file"]))
    width = params.get("width") or max(1, round(image.width * params["height"] / image.height))
    height = params.get("height") or max(1, round(image.height * width / image.width))
    if width * height > PIXELS_MAX:
        raise Unusable(f"{width} x {height} is over {PIXELS_MAX} pixels")
    image = image.convert("RGBA") if image.mode in ("P", "LA", "PA") else image
    match params["fit"]:
        case "inside":
            image = ImageOps.contain(image, (width, height))
        case "cover":
            image = ImageOps.fit(image, (width, height))
        case _:
            image = image.resize((width, height))
    return save(image, params)


def thumbnail(params: Doc) -> Doc:
    file = params["file"]
    try:
        image = opened(file)
    except Unusable:
        frame = ".frame.png"
        run(
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            *LOCAL,
            "-ss",
            params["at_s"],
            "-i",
            file,
            "-frames:v",
            1,
            "-y",
            frame,
        )
        if not Path(frame).exists():
            raise Unusable(f"{file} has no picture at {params['at_s']} s") from None
        image = opened(frame)
    image = ImageOps.exif_transpose(image)
    image = image.convert("RGBA") if image.mode in ("P", "LA", "PA") else image
    image.thumbnail((params["size"], params["size"]))
    return save(image, params)


def convert(params: Doc) -> Doc:
    return save(ImageOps.exif_transpose(opened(params["file"])), params)


def run(program: str, *arguments: object) -> str:
    if shutil.which(program) is None:
        raise Unusable(
            f"it is no image that Pillow reads, and for sound and film this machine lacks {program}"
        )
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable(f"{program}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout


if __name__ == "__main__":
    what = {"inspect": inspect, "resize": resize, "thumbnail": thumbnail, "convert": convert}[sys.argv[1]]
    try:
        print(json.dumps(what(json.loads(sys.argv[2]))))
    except Unusable as problem:
        sys.exit(f"media: {problem}")
