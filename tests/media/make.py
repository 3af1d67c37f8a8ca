#!/usr/bin/env python3
"""Makes the small audio files that the tests of src/media read.

Needs the programs flac, lame, oggenc, opusenc and ffmpeg. The sound is two chirps whose samples
the tests can compute themselves (see `chirp` there), so that a shift by one frame is seen; files
of more channels have a tone of its own in each.
"""

import math
import os
import struct
import subprocess
import wave

HERE = os.path.dirname(os.path.abspath(__file__))


def chirp(frame, rate, channel):
    t = frame / rate
    if channel == 0:
        return 0.5 * math.sin(2 * math.pi * (200 * t + 300 * t * t))
    return 0.4 * math.sin(2 * math.pi * (900 * t - 150 * t * t))


def sound(frame, rate, channel, channels):
    if channels <= 2:
        return chirp(frame, rate, channel)
    return 0.2 * math.sin(2 * math.pi * 200 * (channel + 1) * frame / rate)


def write_wav(path, rate, channels, width, seconds):
    scale = 2 ** (8 * width - 1) - 1
    with wave.open(path, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        data = bytearray()
        for frame in range(int(rate * seconds)):
            for channel in range(channels):
                value = round(sound(frame, rate, channel, channels) * scale)
                data += struct.pack("<i", value)[:width]
        out.writeframes(bytes(data))


def run(*command):
    subprocess.run(command, check=True, cwd=HERE)


def main():
    source = os.path.join(HERE, "source.wav")
    write_wav(source, 44100, 2, 2, 1.5)
    run("flac", "-sf", "-8", "-b", "1152", "-S", "0.25s", "-P", "64", "-T", "TITLE=Rising and falling",
        "-T", "ARTIST=First", "-T", "ARTIST=Second", "-T", "ALBUM=Fixtures", "-o", "stereo.flac", source)
    write_wav(source, 44100, 2, 2, 2.5)
    run("lame", "--quiet", "-b", "128", "--cbr", "-h", "--tt", "Constant", "--ta", "LAME",
        "--id3v2-only", source, "cbr.mp3")
    run("lame", "--quiet", "-V", "3", "-t", "--tt", "Variable", "--ta", "Nobody", "--tl", "Fixtures",
        "--add-id3v2", source, "vbr.mp3")
    write_wav(source, 22050, 1, 3, 1.0)
    run("flac", "-sf", "-5", "--no-seektable", "--no-padding", "-o", "mono24.flac", source)
    tags = ["-metadata", "title=Rising", "-metadata", "artist=Nobody", "-metadata", "album=Fixtures"]
    write_wav(source, 44100, 2, 2, 1.5)
    encode = ["ffmpeg", "-v", "error", "-y", "-i", source]
    exact = ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
    run(*encode, *exact, *tags, "-c:a", "aac", "-b:a", "96k", "stereo.m4a")
    run(*encode, *exact, *tags, "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", "front.m4a")
    run("oggenc", "-Q", "-q", "4", "-s", "1", "-t", "Rising", "-a", "Nobody", "-l", "Fixtures",
        "-o", "whole.ogg", source)
    # Shorter pages, so that there are several.
    run("ffmpeg", "-v", "error", "-y", "-i", "whole.ogg", "-c", "copy", "-page_duration", "200000",
        "-fflags", "+bitexact", "stereo.ogg")
    os.remove(os.path.join(HERE, "whole.ogg"))
    write_wav(source, 48000, 2, 2, 1.5)
    run("opusenc", "--quiet", "--bitrate", "64", "--max-delay", "100", "--serial", "1", "--title", "Rising", "--artist", "Nobody",
        "--album", "Fixtures", source, "stereo.opus")
    write_wav(source, 44100, 2, 2, 0.4)
    run(*encode, *exact, *tags, "-c:a", "alac", "lossless.m4a")
    write_wav(source, 48000, 6, 2, 0.5)
    run("opusenc", "--quiet", "--bitrate", "192", "--serial", "1", source, "six.opus")
    run("oggenc", "-Q", "-q", "3", "-s", "1", "-o", "six.ogg", source)
    run(*encode, *exact, "-c:a", "alac", "-t", "0.1", "six.m4a")
    run(*encode, *exact, "-c:a", "aac", "-t", "0.1", "aacsix.m4a")
    write_wav(source, 48000, 8, 2, 0.05)
    # Left and right of the centre come last.
    wide = "channelmap=map=0|1|2|3|4|5|6|7:channel_layout=7.1(wide)"
    run(*encode, *exact, "-af", wide, "-c:a", "alac", "eight.m4a")
    os.remove(source)
    with open(os.path.join(HERE, "stereo.flac"), "rb") as whole:
        head = whole.read()
    with open(os.path.join(HERE, "cut.flac"), "wb") as out:
        out.write(head[: len(head) * 3 // 5])
    with open(os.path.join(HERE, "text.mp3"), "w", encoding="ascii") as out:
        out.write("This is a shopping list, whatever its name says.\n" * 20)


main()
