"""What is compared with what: the papers' tables, the controls that no paper ran, and the sizes they are run at.

A *scale* is a size of networks and data: ``C`` for a CPU (small networks, 112 x 112, 1,500 training and 500 validation
rows, 1,000 steps), ``G`` for minutes of a GPU (224 x 224, all rows, 30 epochs), ``paper`` for what the papers did
(their encoders, all rows, their lengths, scored on the test part). A *table* has rows, each of which is trained once a
seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.benchmark.cells import CONTROLS, DEGRADED, OWN, Cell
from common.errors import UserError

DATASETS = {
    "qata": "QaTa-COV19-v2", "mosmed": "MosMedData+", "kvasir": "Kvasir-SEG", "clinicdb": "CVC-ClinicDB",
    "csv": "a table of image, mask and text",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Size of networks, data and training.

    Attributes:
        name: of the scale.
        words: what it is, for reports.
        overlays: on top of ``train.json``, before those of a row.
        override: of training, ids and values.
        score: of evaluation: which rows are scored.
    """

    name: str
    words: str
    overlays: tuple[str, ...] = ()
    override: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)


SCALES = {
    "C": Scale(
        "C",
        "small networks (`demo.json`), 112 x 112, at most 1,500 training and 500 validation rows drawn with seed 0, "
        "1,000 steps; the epoch is chosen on the scored rows",
        ("demo",),
        {"train_limit": 1500, "val_limit": 500},
        {"split": "validation", "limit": 500},
    ),
    "G": Scale(
        "G",
        "the bundles' own networks with random encoders for the picture and `compact` for the sentence, 224 x 224, all "
        "training rows, 30 epochs; the epoch is chosen on the scored validation rows",
        ("gpu",),
        {"max_epochs": 30, "cosine_epochs": 30, "patience": 0},
        {"split": "validation"},
    ),
    "paper": Scale(
        "paper",
        "the papers' encoders and lengths (`paper.json`), all training rows, scored on the test rows; the epoch is "
        "chosen on the validation rows",
        ("paper",),
        {},
        {"split": "test"},
    ),
}


# which images and sentences there are, and how large: a first stage has what its row has
OF_DATA = (
    "laterality", "grammar", "captions", "image_size", "train_limit", "val_limit", "splits", "data_seed",
    "text_checkpoint",
)  # fmt: skip
MAIN = "main-"  # begins the keys of tables of methods: reports have parts of the images, costs and pictures of them
OTHER = "other than usual"  # captions of a row: those that the scale's trainings do not have


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: of the line.
        bundle: name.
        overlays: behind those of the scale.
        override: of training; the same ids are needed where the weights are used, and are given there.
        fraction: of the masks.
        stage_one: override of the first of two stages, beside :data:`OF_DATA` of its row; None where there is one.
        published: paper and name of its row there, see :mod:`common.benchmark.published`.
        reference: the line that it is tested against, if that is not the table's.
        end: the first and last rows of an ablation, and all of a comparison of methods: run with every seed and all
            evaluations; others with the first seed and the images' own sentences.
    """

    name: str
    bundle: str
    overlays: tuple[str, ...] = ()
    override: Mapping[str, Any] = field(default_factory=dict)
    fraction: float = 1.0
    stage_one: Mapping[str, Any] | None = None
    published: tuple[str, str] | None = None
    reference: str | None = None
    end: bool = True


@dataclass(frozen=True)
class Table:
    """Rows that are compared.

    Attributes:
        key: of markers in documents, and on the command line.
        title: above it.
        dataset: that all rows share.
        rows: the lines.
        reference: the line that the others are tested against.
        evaluations: of each row that is an end; those besides the own sentences are columns of a table of their own.
        value: of its cells.
        curve: what the rows are a curve over, ``"fraction"`` or ``"degrade"``, or None.
    """

    key: str
    title: str
    dataset: str
    rows: tuple[Row, ...]
    reference: str
    evaluations: tuple[str, ...] = tuple(CONTROLS)
    value: int = 0
    curve: str | None = None

    def cells(self, scale: Scale, seeds: Sequence[int]) -> dict[str, list[Cell]]:
        """The cells of each row by its name, one a seed."""
        return {
            row.name: [
                self._cell(row, scale, seed, again=number > 0)
                for number, seed in enumerate(seeds if row.end else seeds[:1])
            ]
            for row in self.rows
        }

    def _cell(self, row: Row, scale: Scale, seed: int, again: bool) -> Cell:
        evaluations = self.evaluations if row.end else (OWN,)
        if row.bundle in WITHOUT_TEXT:
            evaluations = tuple(name for name in evaluations if name == OWN or name in DEGRADED)
        override = {**scale.override, **row.override}
        if scale.name == "paper":  # the papers' sentences are those as typed: the other form is the canonical one
            evaluations = tuple("canonical" if name == "original" else name for name in evaluations)
        if override.get("captions") == OTHER:
            override["captions"] = "canonical" if scale.name == "paper" else "original"
        if row.fraction != 1:
            override["fraction"] = row.fraction
        overlays = [name for name in scale.overlays if (row.bundle, name) not in _NO_OVERLAY]
        first = row.stage_one
        if first is not None:
            first = stage_one(scale, {key: override[key] for key in OF_DATA if key in override} | dict(first))
        # first the ends of each table, then other seeds of them, then what lies between
        value = self.value - (0 if row.end else 40) - (30 if again else 0)
        return Cell(
            row.bundle, (*overlays, *row.overlays), self.dataset, seed, row.fraction, override, scale.score,
            evaluations, first, value,
        )  # fmt: skip


WITHOUT_TEXT = ("unet",)
_NO_OVERLAY = {("unet", "paper")}  # it has no published encoder

# C2Seg's first stage, as its card has it for the demonstration's size
_STAGE_ONE_C = {"max_epochs": 20, "epoch_length": 10, "learning_rate": 0.001}


def stage_one(scale: Scale, override: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay and settings of C2Seg's first stage at a scale."""
    short = {"C": _STAGE_ONE_C, "G": {"max_epochs": 20}, "paper": {}}[scale.name]
    return {
        "overlay": "pretrain",
        "override": {**{k: v for k, v in scale.override.items() if "limit" in k}, **short, **override},
    }


_CACL: Mapping[str, Any] = {}
UNET = Row("U-Net (takes no sentence)", "unet", published=("BiCLIP", "U-Net"))
MMI = Row("MMI-UNet", "mmi_unet", published=("SSA", "MMI-UNet"))
GUIDE = Row("GuideDecoder", "guide_decoder", published=("SSA", "GuideDecoder"))
SSA = Row("SSA", "ssa", published=("SSA", "SSA"))
EF = Row("EF-UNet", "biclip", ("ef_unet",), published=("BiCLIP", "EF-UNet"))
BICLIP = Row("BiCLIP", "biclip", published=("BiCLIP", "BiCLIP"))
C2SEG = Row("C2Seg", "c2seg", stage_one=_CACL, published=("C2Seg", "C2Seg"))
CAUSAL = Row("CausalCLIPSeg", "causal_clipseg", published=("CausalCLIPSeg", "CausalCLIPSeg"))
SEMI = Row("Semi-MedRef", "semi_medref", published=("Semi-MedRef", "Ours(MMI)"))
SEMI_GUIDE = Row(
    "Semi-MedRef on GuideDecoder", "semi_medref", ("guide_decoder",), published=("Semi-MedRef", "Ours(GD)")
)
METHODS = (UNET, MMI, SSA, BICLIP, C2SEG, CAUSAL, SEMI)
BASELINES = (MMI, GUIDE, EF)  # what Semi-MedRef's second network and BiCLIP stand on, against the usual baseline

_NO_MIX = {"train::trainer::mixing::_disabled_": True}
_NO_POS = {"train::trainer::sentence_transforms": []}
_NO_ITCL = {"loss::align_weight": 0, "loss::align_unlabelled_weight": 0}


def _main() -> list[Table]:
    return [
        Table("main-qata", "Methods on QaTa-COV19-v2", "qata", METHODS, MMI.name, value=100),
        Table("baselines-qata", "Baselines on QaTa-COV19-v2", "qata", BASELINES, MMI.name, value=90),
        Table("main-mosmed", "Methods on MosMedData+", "mosmed", METHODS, MMI.name, value=60),
        Table("baselines-mosmed", "Baselines on MosMedData+", "mosmed", BASELINES, MMI.name, value=50),
        Table(
            "disjoint-mosmed",
            "Methods on MosMedData+, no CT volume in two parts",
            "mosmed",
            tuple(
                replace(row, override={**row.override, "splits": "volume_disjoint"}, published=None) for row in METHODS
            ),
            MMI.name,
            value=55,
        ),
        _polyps("kvasir", 50),
        _polyps("clinicdb", 45),
    ]


def _polyps(dataset: str, value: int) -> Table:
    rows = [
        replace(row, overlays=("polyp",), end=row.name != _C2SEG_ROWS[3].name) for row in (*_C2SEG_ROWS[1:4:2], C2SEG)
    ]
    return Table(f"main-{dataset}", f"C2Seg on {DATASETS[dataset]}", dataset, tuple(rows), rows[0].name, value=value)


def _controls() -> list[Table]:
    rows = (
        MMI,
        Row("MMI-UNet trained and scored without image", "mmi_unet", override={"blank_image": True}, end=False),
        Row(
            "MMI-UNet trained and scored on the other captions (as typed; at scale paper canonical)",
            "mmi_unet",
            override={"captions": OTHER},
            end=False,
        ),
    )
    return [
        Table("controls-qata", "Trained on other than image and canonical sentence", "qata", rows, MMI.name, (OWN,), 90)
    ]


def _fractions() -> list[Table]:
    tables = []
    for dataset, value in (("qata", 40), ("mosmed", 20)):
        for paper, title, rows, fractions in (
            ("Semi-MedRef", "Table 1", (MMI, GUIDE, SEMI, SEMI_GUIDE), (0.02, 0.05, 0.15, 1.0)),
            ("BiCLIP", "Table 2", (EF, BICLIP), (0.01, 0.05, 0.10, 0.25, 1.0)),
            ("SSA", "Table III", (MMI, SSA), (0.15, 0.25, 0.50, 1.0)),
        ):
            if dataset == "mosmed" and paper == "SSA":
                continue  # of QaTa-COV19 alone
            drawn = {"draw": "sorted"} if dataset == "mosmed" and paper == "Semi-MedRef" else {}
            lines = tuple(
                replace(
                    row,
                    name=f"{row.name}, {100 * fraction:g} %",
                    fraction=fraction,
                    override={**row.override, **(drawn if fraction != 1 else {})},
                    published=row.published and (paper, row.published[1]),
                    reference=f"{rows[0].name}, {100 * fraction:g} %",
                )
                for fraction in fractions
                for row in rows
            )
            key = f"fractions-{rows[-1].bundle}-{dataset}"
            tables.append(
                Table(
                    key,
                    f"Masks of a part: {paper}, {title}, {DATASETS[dataset]}",
                    dataset,
                    lines,
                    lines[0].name,
                    (OWN,),
                    value,
                    "fraction",
                )
            )
    return tables


def _degradations() -> list[Table]:
    rows = (UNET, MMI, EF, BICLIP)
    return [
        Table(
            f"degradations-{dataset}",
            f"Worse pictures (BiCLIP's Table 3), {DATASETS[dataset]}",
            dataset,
            rows,
            EF.name,
            (OWN, *DEGRADED),
            value,
            "degrade",
        )
        for dataset, value in (("qata", 65), ("mosmed", 40))
    ]


_SEMI_ROWS = (
    Row(
        "supervised alone",
        "semi_medref",
        override={"loss::weight": 0, **_NO_MIX, **_NO_POS, **_NO_ITCL},
        published=("Semi-MedRef", "Base"),
    ),
    Row(
        "+ teacher and student",
        "semi_medref",
        override={**_NO_MIX, **_NO_POS, **_NO_ITCL},
        published=("Semi-MedRef", "+EMA"),  # what its parts are compared with: with every seed, too
    ),
    Row("+ PosAug", "semi_medref", override={**_NO_MIX, **_NO_ITCL}, published=("Semi-MedRef", "+PosAug"), end=False),
    Row("+ T-PatchMix", "semi_medref", override=_NO_ITCL, published=("Semi-MedRef", "+TPM"), end=False),
    Row("+ ITCL (all)", "semi_medref", published=("Semi-MedRef", "+ITCL")),
)
_SEMI_OTHERS = (
    Row("TextStrong", "semi_medref", ("word_noise",), {**_NO_MIX, **_NO_ITCL}, end=False),
    Row("w/ CutMix", "semi_medref", ("cutmix",), {**_NO_POS, **_NO_ITCL}, end=False),
    Row("w/ SPC", "semi_medref", ("mirror",), {**_NO_POS, **_NO_ITCL}, end=False),
    Row("T-PatchMix alone (V2)", "semi_medref", override={**_NO_POS, **_NO_ITCL}, end=False),
    Row("CLIP's loss for ITCL (V3)", "semi_medref", override={"loss::alignment": "clip"}, end=False),
    Row("the released rules", "semi_medref", ("as_released",), end=False),
    Row("all, on GuideDecoder", "semi_medref", ("guide_decoder",), end=False),
)
_C2SEG_ROWS = (
    Row("(a) no fusion", "c2seg", override={"network_def::fusion": "none"}, published=("C2Seg", "a"), end=False),
    Row(
        "(b) DualA",
        "c2seg",
        override={"network_def::fusion": "dual", "network_def::gate": "none"},
        published=("C2Seg", "b"),
    ),
    Row("(c) BCAM", "c2seg", override={"network_def::gate": "none"}, published=("C2Seg", "c"), end=False),
    Row("(d) BCAM and K-Gate", "c2seg", published=("C2Seg", "d"), end=False),
    Row(
        "(e) after stage I with hard labels",
        "c2seg",
        stage_one={"loss::softness": 0},
        published=("C2Seg", "e"),
        end=False,
    ),
    Row("(f) after stage I (CaCL)", "c2seg", stage_one=_CACL, published=("C2Seg", "f")),
    Row(
        "encoder of convolutions",
        "c2seg",
        override={"network_def::image_encoder::kan_from": 5},
        published=("C2Seg", "CNN enc"),
        end=False,
    ),
    Row(
        "encoder of KAN alone",
        "c2seg",
        override={"network_def::image_encoder::kan_from": 0},
        published=("C2Seg", "KAN enc"),
        end=False,
    ),
    Row(
        "BCAM with linear projections",
        "c2seg",
        override={"network_def::projection": "linear"},
        published=("C2Seg", "BCAM linear"),
        end=False,
    ),
    Row("gate of an MLP", "c2seg", override={"network_def::gate": "mlp"}, published=("C2Seg", "K-Gate MLP"), end=False),
)
_SSA_ROWS = (
    Row(
        "baseline",
        "ssa",
        override={"loss::global_weight": 0, "loss::local_weight": 0, "loss::guide_weight": 0},
        published=("SSA", "base"),
    ),
    Row(
        "CDG", "ssa", override={"loss::global_weight": 0, "loss::local_weight": 0}, published=("SSA", "CDG"), end=False
    ),
    Row("DSOT", "ssa", override={"loss::guide_weight": 0}, published=("SSA", "DSOT"), end=False),
    Row("SSA: both", "ssa", published=("SSA", "both")),
)
_BICLIP_ROWS = (
    Row("EF-UNet: none of the three", "biclip", ("ef_unet",), published=("BiCLIP", "EF-UNet")),
    Row("without fusion", "biclip", override={"network_def::fusion": False}, end=False),
    Row("without cycle", "biclip", override={"network_def::cycle": False}, end=False),
    Row("without consistency", "biclip", override={"network_def::consistency": False}, end=False),
    Row("BiCLIP", "biclip", published=("BiCLIP", "BiCLIP")),
)
_CAUSAL_ROWS = (
    Row(
        "without the causal module",
        "causal_clipseg",
        override={"network_def::game": "none"},
        published=("CausalCLIPSeg", "3"),
    ),
    Row("literal (the default)", "causal_clipseg", published=("CausalCLIPSeg", "4")),
    Row("grl", "causal_clipseg", override={"network_def::game": "grl"}, end=False),
    Row("uniform", "causal_clipseg", override={"network_def::game": "uniform"}, end=False),
)


def _c2seg_ablations() -> list[Table]:
    tables = []
    for dataset, value in (("qata", 75), ("mosmed", 40), ("clinicdb", 35)):
        overlays = ("polyp",) if dataset == "clinicdb" else ()
        rows = tuple(replace(row, overlays=overlays) for row in _C2SEG_ROWS)
        key = "c2seg" if dataset == "qata" else f"c2seg-{dataset}"
        title = f"C2Seg: the rows of its Tables 3 and 4, {DATASETS[dataset]}"
        tables.append(Table(key, title, dataset, rows, rows[1].name, (OWN,), value))
    return tables


_SENTENCES = (OWN, "default", "shuffled", "mirrored")


def _ablations() -> list[Table]:
    semi, others = (tuple(replace(row, fraction=0.02) for row in rows) for rows in (_SEMI_ROWS, _SEMI_OTHERS))
    against = semi[1]  # what each part adds to teacher and student
    title = "Semi-MedRef with the masks of 2 %"
    tables = [
        Table("semi_medref", f"{title}: its Table 2, QaTa-COV19-v2", "qata", semi, against.name, value=80),
        Table(
            "semi_medref-more", f"{title}: its Table 3, QaTa-COV19-v2", "qata", (against, *others), against.name,
            value=60,
        ),
        Table("ssa", "SSA: its Table II, QaTa-COV19-v2", "qata", _SSA_ROWS, "baseline", value=75),
        *_c2seg_ablations(),
        Table("biclip", "BiCLIP: its parts, QaTa-COV19-v2", "qata", _BICLIP_ROWS, _BICLIP_ROWS[0].name, value=70),
        Table(
            "causal_clipseg", "CausalCLIPSeg: its Table 2, and the games, QaTa-COV19-v2", "qata", _CAUSAL_ROWS,
            _CAUSAL_ROWS[0].name, value=70,
        ),
    ]  # fmt: skip
    return [replace(table, evaluations=_SENTENCES) for table in tables]


PROTOCOLS = {
    "main": _main,
    "controls": _controls,
    "fractions": _fractions,
    "degradations": _degradations,
    "ablations": _ablations,
}


def tables(names: Sequence[str]) -> list[Table]:
    """Tables by the names of protocols or by their own keys.

    Raises:
        UserError: a name is neither.
    """
    every = {name: make() for name, make in PROTOCOLS.items()}
    keyed = {table.key: table for made in every.values() for table in made}
    found: dict[str, Table] = {}
    for name in names:
        if name not in every and name not in keyed:
            raise UserError(
                f"{name}: is no protocol and no table; protocols are {', '.join(every)}; tables are "
                f"{', '.join(keyed)}; the path of one of your own ends in .json"
            )
        for table in every.get(name, [keyed[name]] if name in keyed else []):
            found[table.key] = table
    return list(found.values())
