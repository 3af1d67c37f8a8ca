#!/usr/bin/env python3
"""Composes the demo music and encodes it as demo.flac beside this file.

Needs Python 3 and the program flac; only the result is built into groovebox. The piece is made
here note by note, so it belongs to nobody else and is free like the rest of the project. It is
the same on every run.

Plucked strings by Karplus and Strong (Computer Music Journal 7:2, 1983), a soft pad of a few
detuned sines, and a melody that wanders over the chords without repeating itself: no stretch of
it sounds like another, so a recording of it can be placed in time without doubt.
"""

import math
import os
import random
import struct
import subprocess
import tempfile
import wave

RATE = 24000
BEAT = 60 / 84
BARS = 16
TAIL = 4.0
HERE = os.path.dirname(os.path.abspath(__file__))

# Root and chord notes as MIDI numbers: D major, quietly moving.
CHORDS = [
    (38, (62, 66, 69)), (47, (62, 66, 71)), (43, (59, 62, 67)), (45, (61, 64, 69)),
    (42, (61, 66, 69)), (47, (62, 66, 71)), (40, (59, 64, 67)), (45, (62, 64, 69)),
]
SCALE = [62, 64, 66, 67, 69, 71, 73, 74, 76, 78, 79, 81, 83]


def hertz(note):
    return 440 * 2 ** ((note - 69) / 12)


class Music:
    def __init__(self):
        self.samples = [0.0] * int((BARS * 4 * BEAT + TAIL) * RATE)
        self.random = random.Random(4766)

    def add(self, start, sound):
        first = int(start * RATE)
        for i, value in enumerate(sound[: len(self.samples) - first]):
            self.samples[first + i] += value

    def pluck(self, start, note, seconds, loud):
        """A burst of noise running round a loop that softens it a little each time."""
        period = RATE / hertz(note)
        length = int(period - 0.8)
        loop = [self.random.uniform(-1, 1) for _ in range(length)]
        for _ in range(3):  # a soft finger
            loop = [(loop[i] + loop[i - 1]) / 2 for i in range(length)]
        tune = period - 0.5 - length  # what the whole loop lacks, by an all-pass
        factor = (1 - tune) / (1 + tune)
        damping = 0.5 ** (1 / (hertz(note) * 0.55))
        out, before, passed, mean_before = [], 0.0, 0.0, 0.0
        for i in range(int(seconds * RATE)):
            value = loop[i % length]
            mean = damping * (value + before) / 2
            before = value
            passed = factor * (mean - passed) + mean_before
            mean_before = mean
            loop[i % length] = passed
            fade = min(1.0, (seconds - i / RATE) / 0.08)
            out.append(loud * value * fade)
        self.add(start, out)

    def pad(self, start, note, seconds, loud):
        voices = [(hertz(note) * ratio, self.random.random()) for ratio in (0.9985, 1.0, 1.0017)]
        out = []
        for i in range(int(seconds * RATE)):
            t = i / RATE
            swell = math.sin(math.pi * t / seconds) ** 0.7
            wave_sum = sum(math.sin(2 * math.pi * (hz * t + phase)) for hz, phase in voices)
            out.append(loud * swell * wave_sum / 3)
        self.add(start, out)

    def compose(self):
        place = 4
        for bar in range(BARS):
            start = bar * 4 * BEAT
            root, chord = CHORDS[(bar + bar // 8 * 2) % len(CHORDS)]
            for note in chord:
                self.pad(start, note - 12, 4.6 * BEAT, 0.055)
            self.pluck(start, root, 3.6 * BEAT, 0.5)
            if bar % 2:
                self.pluck(start + 2.5 * BEAT, root + 7, 1.4 * BEAT, 0.3)
            order = list(chord) + [chord[self.random.randrange(3)] + 12]
            for step in range(8):
                note = order[(step + self.random.randrange(2)) % len(order)]
                late = self.random.uniform(0, 0.012)
                loud = 0.17 + 0.05 * (step % 4 == 0) + self.random.uniform(-0.03, 0.03)
                self.pluck(start + step * BEAT / 2 + late, note, 1.3 * BEAT, loud)
            place = self.melody(bar, start, chord, place)
        end = BARS * 4 * BEAT
        for i, note in enumerate((38, 50, 57, 62, 66, 74)):
            self.pluck(end + i * 0.07, note, 3.2, 0.28)

    def melody(self, bar, start, chord, place):
        if bar < 2:
            return place
        beat = 0.0
        while beat < 4:
            length = self.random.choice((0.5, 1, 1, 1.5, 2))
            length = min(length, 4 - beat)
            place += self.random.choice((-2, -1, -1, 1, 1, 2))
            place = max(1, min(len(SCALE) - 2, place))
            if beat in (0.0, 2.0):  # strong beats rest on the chord
                place = min(range(len(SCALE)),
                            key=lambda i: (SCALE[i] % 12 not in [n % 12 for n in chord], abs(i - place)))
            if self.random.random() < 0.85:
                self.pluck(start + beat * BEAT, SCALE[place] + 12, (length + 0.6) * BEAT, 0.26)
            beat += length
        return place

    def write(self, path):
        peak = max(abs(value) for value in self.samples)
        with wave.open(path, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            scale = 0.8 * 32767 / peak
            out.writeframes(b"".join(struct.pack("<h", round(v * scale)) for v in self.samples))


def main():
    music = Music()
    music.compose()
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "demo.wav")
        music.write(plain)
        subprocess.run(
            ["flac", "-sf", "-8", "-e", "-p", "-S", "5s", "--no-padding", "-T", "TITLE=Three Rooms, One Sound",
             "-T", "ARTIST=GrooveBox", "-o", os.path.join(HERE, "demo.flac"), plain], check=True)


if __name__ == "__main__":
    main()
