"""Draws receipts as a scanner would see them: text lines of a real font, turned, shaded and noisy, their boxes known.

python generate.py FOLDER --train 320 --validation 80

writes FOLDER/train and FOLDER/validation with the images and lines.csv: image, x1, y1, x2, y2 in pixels, a row for
each line. Every receipt follows from the seed and its number. Needs numpy and Pillow 10.1, which brings the font.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 192, 256
SHOPS = ("MARKET", "Bakery Anna", "CITY BOOKS", "Cafe Luna", "HARDWARE", "Green Grocer", "Pharmacy", "KIOSK 24")
GOODS = (
    "Coffee", "Bread", "Butter", "Apples", "Juice", "Milk", "Cheese", "Rice", "Tea bags", "Soap", "Batteries", "Book",
    "Pencil", "Tomatoes", "Sugar", "Olive oil", "Water", "Cocoa", "Paper", "Light bulb",
)  # fmt: skip  # a table
FOOTERS = ("Thank you!", "VAT included", "Card payment", "Call again", "Open 8 - 20")
INK = 60  # of 255: the darkness from which a pixel belongs to a line's box


def receipt(random):
    """Return an image, bytes (HEIGHT, WIDTH), and the boxes (x1, y1, x2, y2) of its lines, tight around their ink."""
    angle, left = random.uniform(-2, 2), int(random.integers(8, 40))
    right = min(WIDTH - 8, left + int(random.integers(110, 160)))
    top, count = int(random.integers(8, 24)), int(random.integers(4, 13))
    layers, boxes = [], []
    for number in range(count):
        font = ImageFont.load_default(int(random.integers(12, 17)) + 3 * (number == 0))
        layer = turned(draw_line(font, words(random, number, count), left, right, top), angle)
        box = layer.point(lambda value: 255 * (value > INK)).getbbox()
        if box is None or box[3] >= HEIGHT - 6:
            break
        layers.append(layer)
        boxes.append(box)
        top += int(font.size * random.uniform(1.25, 1.5))
        if number < count - 1 and random.random() < 0.12:
            layers.append(turned(draw_rule(random, left, right, top), angle))
            top += 14
    return scan(random, np.maximum.reduce([np.asarray(layer) for layer in layers])), boxes


def words(random, number, count):
    """Return what a line says at its left and, unless it stands in the middle, at its right."""
    if number == 0:
        return str(random.choice(SHOPS)), None
    if number == count - 1:
        total = "TOTAL", f"{random.uniform(5, 200):.2f}"
        return (str(random.choice(FOOTERS)), None) if random.random() < 0.5 else total
    if random.random() < 0.15:
        return f"{random.integers(1, 29):02}.{random.integers(1, 13):02}.2019", ""
    return f"{random.integers(1, 10)} {random.choice(GOODS)}", f"{random.uniform(0.5, 60):.2f}"


def draw_line(font, text, left, right, top):
    """Return a black layer with one line of text in white; the right part is left out where there is no room."""
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw, (start, end) = ImageDraw.Draw(layer), text
    width = draw.textlength(start, font)
    if end is None:
        left += max(0, (right - left - width) // 2)
    draw.text((left, top), start, 255, font)
    if end and left + width + 6 + (length := draw.textlength(end, font)) <= right:
        draw.text((right - length, top), end, 255, font)
    return layer


def draw_rule(random, left, right, top):
    """Return a layer with a dashed rule or a bar code, which a detector of lines has to leave alone."""
    layer = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(layer)
    if random.random() < 0.6:
        for x in range(left, right - 4, 7):
            draw.line((x, top + 5, x + 4, top + 5), 200)
    else:
        for x in range(left + 10, right - 10, 3):
            draw.line((x, top + 1, x, top + 10), 230, int(random.integers(1, 3)))
    return layer


def turned(layer, angle):
    return layer.rotate(angle, Image.Resampling.BILINEAR)


def scan(random, ink):
    """Return bytes (HEIGHT, WIDTH): ink on paper that is shaded, a little out of focus and noisy."""
    blurred = Image.fromarray(ink).filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.7)))
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    paper = random.uniform(190, 245) + random.uniform(-20, 20) * x + random.uniform(-20, 20) * y
    image = paper - random.uniform(90, 190) * np.asarray(blurred) / 255
    return np.clip(image + random.normal(0, random.uniform(2, 9), ink.shape), 0, 255).astype(np.uint8)


def write(folder, count, seed):
    """Write so many receipts into a new folder."""
    folder.mkdir(parents=True)
    with (folder / "lines.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "x1", "y1", "x2", "y2"))
        for number in range(count):
            image, boxes = receipt(np.random.default_rng((*seed, number)))
            Image.fromarray(image).save(folder / f"{number:04}.png")
            rows.writerows((f"{number:04}.png", *box) for box in boxes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--train", type=int, default=320, help="receipts to learn from [320]")
    parser.add_argument("--validation", type=int, default=80, help="receipts to test with [80]")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "validation": arguments.validation}
    for part, count in counts.items():
        if count < 1:
            parser.error(f"--{part} {count}: at least one receipt is needed")
        if (arguments.folder / part).exists():
            parser.error(f"{arguments.folder / part} is there already: name another folder, or remove it")
    if arguments.seed < 0:
        parser.error(f"--seed {arguments.seed} is negative")
    for number, (part, count) in enumerate(counts.items()):
        write(arguments.folder / part, count, (arguments.seed, number))
    print(f"{arguments.folder}: {arguments.train} receipts to learn from, {arguments.validation} to test with")


if __name__ == "__main__":
    main()
