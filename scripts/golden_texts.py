"""Texts that an embedding engine must get right: everyday, foreign, odd and hostile ones, the same on every machine.

`TEXTS` needs no data and no third-party package; `digest()` tells whether two versions of it are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío.",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Nechť již hříšné saxofony ďáblů rozezvučí síň úděsnými tóny waltzu.",
    "Árvíztűrő tükörfúrógép, jó foxim és don Quijote húszwattos lámpánál ülve.",
    "Kæmi ný öxi hér ykist þjófum nú bæði víl og ádrepa.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul, ILIK, ısı.",
    "Do bạch kim rất quý nên sẽ dùng để lắp vô xương.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΣΊΣΥΦΟΣ, σίσυφος.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق",
    "בָּרָא אֱלֹהִים אֵת הַשָּׁמַיִם וְאֵת הָאָרֶץ",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम",
    "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি।",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "తెలుగు లిపి చాలా అందంగా ఉంటుంది",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "ຂອບໃຈຫຼາຍໆ ສະບາຍດີ",
    "ကျွန်တော် မြန်မာစကား ပြောတတ်တယ်။",
    "ខ្ញុំអាចញ៉ាំកញ្ចក់បាន ដោយគ្មានបញ្ហា",
    "我能吞下玻璃而不伤身体。今天天气很好，我们去公园吧！",
    "視野無限廣，窗外有藍天。",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    "パナソニックの半角ｶﾀｶﾅと全角ＡＢＣ１２３。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "ვეპხის ტყაოსანი შოთა რუსთაველი",
    "ሰማይ አይታረስ ንጉሥ አይከሰስ።",
    "Բել դղյակի ձախ ժամն օֆ ազգությանը ցպահանջ չճշտած վնաս էր եւ փառք։",
    "ᚠᛇᚻ ᛒᛦᚦ ᚠᚱᚩᚠᚢᚱ ᚠᛁᚱᚪ ᚷᛖᚻᚹᛦᛚᚳᚢᛗ",
    "ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ",
    "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "𐌲𐌿𐍄𐌹𐍃𐌺 𐍂𐌰𐌶𐌳𐌰",
    "𠜎𠜱𠝹𠱓 𪚥 beyond the basic plane",
    "English, русский, 中文, العربية and 한국어 in one sentence.",
]

EMOJI = [
    "😀",
    "I love this! 😍🔥💯",
    "👩‍👩‍👧‍👦 is one family",
    "👩🏽‍💻 writes code, 🧑🏿‍🚀 flies",
    "🏳️‍🌈 🏴‍☠️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 flags",
    "🇩🇪🇫🇷🇯🇵🇧🇷",
    "1️⃣ 2️⃣ #️⃣ *️⃣",
    "☃︎ text and ☃️ emoji presentation",
    "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀",
    "mixed🍕without🍔spaces",
]

CONTROLS = [
    "\x00",
    "a\x00b",
    "bell\x07rings",
    "\x00\x01\x02\x03\x1b[31mred\x1b[0m\x7f",
    "tab\tnewline\ncarriage\r\nreturn\x0bvertical\x0cform",
    "next\x85line and \x9c terminator",
    "zero\u200bwidth\u200cspace\u200djoiner",
    "\ufeffbyte order mark first",
    "in the \ufeff middle",
    "soft\u00adhyphen\u00adated",
    "\u202eright to left override\u202c done",
    "\u200fmark\u200e and \u2066isolate\u2069",
    "line\u2028separator and paragraph\u2029separator",
    "no\u00a0break\u202fspaces\u2007of\u3000many\u2003kinds",
    "replacement \ufffd\ufffd character",
    "private \ue000\uf8ff use",
    "not a character \uffff \ufdd0 \U0010ffff",
    "interlinear \ufff9anchor\ufffa\ufffb",
    "tag \U000e0041\U000e0042\U000e007f characters",
    "variation selector a\ufe0f b\U000e0100",
]

COMBINING = [
    "cafe\u0301 versus caf\u00e9",
    "a\u0308\u0304\u030a\u0328 stacked",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dalgo",
    "\u0301 alone",
    "\u0301\u0301\u0301",
    "\u1112\u1161\u11ab\u1100\u1173\u11af decomposed hangul, \ud55c\uae00 composed",
    "\ufb01ne \ufb02ow ligatures \u01c4 \u01c6",
    "\u212b \u2126 \u2460 \u00bd \u00b2 compatibility",
    "\u0130 dotted I and \u1e9e sharp S",
    "\u0e01\u0e33 \u0e33 and \u0939\u093f\u0928\u094d\u0926\u0940",
]

SPECIAL_TOKENS = [
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "[CLS] already framed [SEP]",
    "fill in the [MASK] please",
    "two [PAD][PAD] pads",
    "<s>",
    "</s>",
    "<pad>",
    "<mask>",
    "<unk>",
    "<s> already framed </s>",
    "a <pad> in the middle <pad>",
    "fill in the <mask> please",
    "ends with </s></s>",
    "[cls] [Mask] <PAD> <Mask> in another case",
    "[ CLS ] < pad > with spaces",
    "glued[MASK]to<mask>words[SEP]",
    "[unused1] [unused42] ##ing ##",
    "<|endoftext|> <extra_id_0> \u2581 \u0120",
]

CODE = [
    "def f(x: int) -> int:\n    return x ** 2 if x else None",
    "for (size_t i = 0; i < n; ++i) { y[i] += a * x[i]; }",
    "SELECT u.id, COUNT(*) FROM users AS u LEFT JOIN orders o ON o.uid = u.id WHERE u.age >= 18 GROUP BY 1;",
    '{"key": [1, 2.5e-3, null, true], "nested": {"a\\u00e9": "\\n"}}',
    "<div class='a b'><p>Hello &amp; <b>bye</b>&nbsp;</p></div>",
    "#!/bin/sh\nset -eu; grep -rn 'foo.*bar' . | awk '{print $1}' > /tmp/out 2>&1",
    'fn main() { let v: Vec<u8> = vec![0; 16]; println!("{:?}", &v[..4]); }',
    "\\frac{\\partial L}{\\partial w_i} = \\sum_{j=1}^{n} x_{ij}(\\hat{y}_j - y_j)",
    'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nZeroDivisionError: division by zero',
    "a=b;c==d!=e<=f>=g&&h||i^j%k~l`m",
    "snake_case_name camelCaseName PascalCaseName kebab-case-name SCREAMING_CASE",
    'if err != nil {\n\treturn fmt.Errorf("open %q: %w", path, err)\n}',
]

ADDRESSES_AND_NUMBERS = [
    "https://example.com/a/b?c=d&e=%20f#g",
    "mailto:first.last+tag@sub.example.co.uk",
    "ftp://user:secret@127.0.0.1:2121/~home/../etc",
    "http://[2001:db8::ff00:42:8329]:8080/index.html",
    "C:\\Users\\me\\Documents\\file (1).txt",
    "/usr/local/lib/python3.11/site-packages",
    "@someone #topic RT: see www.example.org!!!",
    "0",
    "42",
    "3.14159265358979323846264338327950288419716939937510",
    "-1e-400, +7, 1/3, 50 %, $1,234.56, 99 €, ¥1000, £5",
    "2024-02-29T23:59:60Z",
    "+1 (555) 010-9999 ext. 12",
    "0xDEADBEEF 0b1010 0o777 1_000_000",
    "192.168.0.1/24",
    "978-3-16-148410-0",
    "10.1000/182 arXiv:2002.05202v1",
    "٠١٢٣٤٥٦٧٨٩ ०१२३४५६७८९ 一二三 Ⅷ",
    "550e8400-e29b-41d4-a716-446655440000",
    "1234567890" * 30,
]

SMALL = [
    "",
    " ",
    "    ",
    "\t",
    "\n\n\n",
    " \t\r\n \u00a0\u2003\u3000 ",
    "\u200b",
    "a",
    "A",
    "I",
    ".",
    "?",
    "!!!",
    "...",
    "-",
    "é",
    "ß",
    "中",
    "the",
    "hello",
    "Hello",
    "HELLO",
    " hello ",
    "hello\n",
    "dog",
    "unbelievable",
    "ok?",
    "\"quoted\" and 'single' and “curly” and «guillemets»",
    "dash - en – em — minus − hyphen‐",
    "ellipsis… bullet • degree ° trademark ™ copyright ©",
]

LONG_WORDS = [
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "a" * 5000,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
    "abcdefghijklmnopqrstuvwxyz" * 20,
    "ха" * 300,
    "漢" * 700,
    "short " + "x" * 150 + " short",
    "supercalifragilistic" * 6 + " and more",
    "é" * 200,
    "ab " * 600,
    "!" * 600,
    ". " * 400,
    "word-" * 200,
    "[MASK]" * 300,
    "<pad> " * 50,
    "\n" * 1000,
    "😀" * 400,
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 12,
    "The same sentence again. " * 80,
]

_SUBJECTS = (
    "a baker|the young engineer|our neighbour|the committee|an old sailor|my sister|the museum|a small robot|nobody"
)
_VERBS = "repaired|described|forgot|painted|measured|sold|dreamed about|carefully studied|refused to open|translated"
_OBJECTS = (
    "the broken clock|a map of the coast|seven letters|the last chapter|an unusual recipe|two heavy boxes|"
    "the northern bridge"
)
_PLACES = (
    "in the harbour|behind the library|at dawn|during the storm|without any help|for the third time|near Lisbon|in 1987"
)
_ENDINGS = ".|.|.|!|?|, and then it rained.|; nobody noticed.|, although the price had doubled."


def prose(n_words: int, *, seed: int) -> str:
    """Sentences, cut after exactly `n_words` words; another `seed` gives another text."""
    return " ".join(islice(_words(seed), n_words))


def _words(seed: int) -> Iterator[str]:
    state = seed
    while True:
        parts = []
        for choices in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES, _ENDINGS):
            # Knuth's MMIX generator: the same numbers everywhere, and the high bits are good enough for words.
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            options = choices.split("|")
            parts.append(options[(state >> 33) % len(options)])
        sentence = " ".join(parts[:-1]) + parts[-1]
        yield from (sentence[0].upper() + sentence[1:]).split()


def _generated() -> list[str]:
    short = [prose(3 + number, seed=number) for number in range(28)]
    long = [prose(40 * number, seed=100 + number) for number in range(1, 17)]
    past_every_limit = [prose(n_words, seed=n_words) for n_words in (240, 250, 256, 300, 375, 384, 420, 700, 1500)]
    paragraphs = ["\n\n".join(prose(20, seed=200 + 10 * number + part) for part in range(3)) for number in range(4)]
    return [*short, *long, *past_every_limit, *paragraphs]


TEXTS: list[str] = [
    *SMALL,
    *SCRIPTS,
    *EMOJI,
    *CONTROLS,
    *COMBINING,
    *SPECIAL_TOKENS,
    *CODE,
    *ADDRESSES_AND_NUMBERS,
    *LONG_WORDS,
    *_generated(),
]
"""Every text, in a fixed order."""


def digest() -> str:
    """SHA-256 of `TEXTS`, hex: golden vectors carry it, so that texts and vectors cannot drift apart."""
    return hashlib.sha256(json.dumps(TEXTS).encode()).hexdigest()
