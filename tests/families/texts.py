"""What is embedded: twelve scripts, one character, none, special tokens, and texts near and beyond a limit."""

LIMIT = 40
"""`max_seq_length` of every folder, in tokens."""

_SENTENCES = (
    "the cat sat on the mat",
    "A big dog ran under the old tree, and the small cat not.",
    "Where does the river meet the sea?",
    "Stocks dropped this morning; the market fell sharply.",
    "How do I bake bread at home in one hour?",
    "THE CAT AND THE DOG!",
    "der Hund läuft über die grüne Straße",
    "el niño comió una manzana en el jardín",
    "le garçon a mangé un gâteau à la crème",
    "il gatto è seduto sul tappeto rosso",
    "o coração da cidade não dorme",
    "kedi ağacın altında uyuyor",
    "con mèo ngồi trên tấm thảm",
    "кошка сидит на ковре",
    "собака бежит под деревом",
    "η γάτα κάθεται στο χαλί",
    "החתול יושב על השטיח",
    "القطة تجلس على السجادة",
    "बिल्ली चटाई पर बैठी है",
    "แมวนั่งอยู่บนเสื่อ",
    "고양이가 매트 위에 앉아 있다",
    "猫坐在垫子上",
    "猫がマットの上に座っている",
    "კატა ხალიჩაზე ზის",
    "கன்றுக்குட்டி ஓடுகிறது",
    "cat\u732b\u5750\u4e0bdog кот",
)
_ODD = (
    "",
    " ",
    "a",
    "?",
    "猫",
    "7",
    "\u00e9",
    "e\u0301",
    "\U0001f63a",
    "the",
    "3.14159 x-ray_vision's tree",
    "not\n\n a\t\u00a0\u200b red  mat ",
    "Résumé naïve café Ångström",
    "\u1e69 \u00df \u0130 \ufb01 \u2460",
    "[CLS] the [MASK] cat [SEP]",
    "the [PAD] cat [PAD] sat",
    "<s> the <mask> cat </s>",
    "the <pad> cat <pad><pad> sat",
    "<|endoftext|> the <|im_start|> cat <bos> dog <eos>",
    "http://example.org/a?b=c&d=e#f",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "... --- ...",
)
_LONG = (
    "the cat sat on the big red mat " * 4,
    "the cat sat on the big red mat " * 5,
    "a small dog ran under the old tree, " * 12,
    "cat " * (LIMIT - 3),
    "cat " * (LIMIT - 2),
    "cat " * (LIMIT - 1),
    "кошка и собака " * 20,
    "猫狗" * 60,
)
TEXTS = (*_SENTENCES, *_ODD, *_LONG)
WORDS = tuple(dict.fromkeys(" ".join(_SENTENCES[:16]).split()))
"""What vocabularies know whole."""
