"""Invented but consistent contents for the pages of the preview; texts come from the pictures of the design."""

from datetime import UTC, datetime, timedelta

from django import forms

from apps.core.page import (
    Action,
    Bar,
    Chart,
    CodeTab,
    Crumb,
    DangerDialog,
    EmptyState,
    KeyValue,
    LoadLine,
    LogView,
    NavGroup,
    NavItem,
    Page,
    PhasePart,
    PhaseTimeline,
    Pill,
    PriceCard,
    Progress,
    Replicas,
    Stat,
    Tab,
    bold,
)

# A zero of the digits data, a letter a pixel: a is 0, q is 16.
DIGIT = [ord(pixel) - ord("a") for pixel in "aafnjbaaaanpkpfaaadpcaliaaemaaiiaafiaajiaaelabmhaacofkmaaaagnkaaa"]
RUN = "run:run_01k7fz3m9qexample"


def nav(current: str) -> list[NavGroup]:
    def group(label: str, *items: tuple[str, str, int]) -> NavGroup:
        return NavGroup(
            label,
            [NavItem(name, "#", icon, count, name == current, name == "Strays") for name, icon, count in items],
        )

    return [
        group("", ("Overview", "layout-dashboard", 0)),
        group(
            "Build and serve",
            ("Datasets", "database", 9),
            ("Training", "activity", 3),
            ("Models", "box", 12),
            ("Exports", "package", 31),
            ("Deployments", "radio-tower", 5),
        ),
        group("Clouds", ("Which cloud?", "compass", 0), ("Clusters", "server", 3), ("Cloud accounts", "cloud", 3)),
        group("Money", ("Costs", "wallet", 0), ("Strays", "radar", 1)),
        group("Workspace", ("Events", "list", 0), ("Settings", "settings", 0)),
    ]


class RunForm(forms.Form):
    learning_rate = forms.FloatField(
        label="Learning rate",
        error_messages={"invalid": "Write the number with a point: 0.0003. A comma is not understood."},
    )
    processes = forms.IntegerField(label="Processes", help_text="One process a core or a GPU is usual.", initial=2)
    mixed_precision = forms.BooleanField(label="Mixed precision (bf16)", required=False, initial=True)
    shard = forms.BooleanField(label="Shard weights", required=False)
    note = forms.CharField(label="Note", required=False, widget=forms.Textarea)
    data = forms.FileField(label="Dataset", required=False, help_text="npz, zip, Parquet, CSV or JSON Lines.")


PILLS = [
    Pill("ok", "Serving"),
    Pill("ok", "Succeeded"),
    Pill("ok", "Certified"),
    Pill("run", "Training"),
    Pill("run", "Starting"),
    Pill("wait", "Queued"),
    Pill("wait", "Waiting for capacity"),
    Pill("warn", "Degraded"),
    Pill("warn", "Canary paused"),
    Pill("bad", "Failed"),
    Pill("bad", "Rejected"),
    Pill("off", "Stopped"),
    Pill("off", "Scaled to zero"),
    Pill("off", "Not started"),
    Pill("off", "Nothing bought yet"),
    Pill("off", "Archived"),
    Pill("sim", "Simulated"),
]


def components() -> dict[str, object]:
    return {
        "pills": PILLS,
        "loads": [
            LoadLine(1684, 2000, "$1,684 of $2,000", "Budget", mark_percent=91),
            LoadLine(22, 24, "22 of at most 24 differ", "Agreement"),
            LoadLine(0.25, 0.5, "0.25 of at most 0.50 points", "Accuracy lost"),
            LoadLine(96, 80, "96 of at most 80 ms", "Latency p95", mark_percent=80),
        ],
        "form": RunForm({"learning_rate": "0,0003", "processes": "2", "mixed_precision": "on"}),
        "dialog": DangerDialog(
            "delete-cluster",
            "Delete cluster fra-eks?",
            "#",
            "Delete fra-eks",
            words="AWS will delete 33 things in eu-central-1. This cannot be undone.",
            goes=[("7 machines and their disks", "−$3.27/h"), ("1 load balancer, 2 addresses", "−$0.04/h")],
            stops=["2 deployments stop answering: parts-inspector, helpdesk-chat"],
            stays=["1 batch prediction stops at row 14,700 and can go on elsewhere"],
            confirm="fra-eks",
        ),
        "working": Progress(None, "Reading 412 prices, 3 of 9 services"),
        "done": Progress(0.33, "of 9 services", "about 12 s left"),
        "empty": EmptyState(
            "No exports yet",
            "An export makes a version smaller or faster and proves what that costs in accuracy. "
            "You have 2 versions to start from.",
            [Action("Export parts-resnet50 v7", "#", "package", "primary")],
        ),
        "replica_sets": [
            Replicas("4 ready", ready=4),
            Replicas("2 ready, 1 starting", ready=2, starting=1),
            Replicas("1 crashed", ready=2, crashed=1),
            Replicas("scaled to zero, 3 at most", allowed=3),
        ],
        "price": PriceCard(
            "$2.04",
            "an hour",
            "$1,489 a month",
            [("1 × g6e.xlarge", "$1.86"), ("Disk 200 GB", "$0.18"), ("an hour", "$2.04")],
            "traffic out of the cloud",
            "Prices of 25 November",
            Action("Create for $2.04 an hour", "#", style="primary"),
        ),
        "actions": [
            Action("New training run", "#", "plus", "primary"),
            Action("Clone", "#", "copy"),
            Action("See costs", "#", style="quiet"),
            Action("Delete", "#", "trash-2", "danger", dialog="delete-cluster"),
            Action("Deploy", disabled="Not certified yet"),
            Action("Cancel run", "#", "x", "danger", "post", busy="Cancelling"),
        ],
        "bars": [
            Bar(str(digit), 0.996 if digit == 3 else 0.001, "99.6%" if digit == 3 else "0.1%", digit == 3)
            for digit in range(10)
        ],
        "moment": datetime.now(UTC) - timedelta(seconds=14),
        "digit": DIGIT,
        "page": Page(
            "Windlass components",
            bold("Every small part and state. **One primary a page.**"),
            breadcrumbs=[Crumb("Components")],
        ),
    }


def training_run() -> dict[str, object]:
    return {
        "page": Page(
            "parts-resnet50 #18",
            bold(
                "Step **6,412 of 9,600**. Validation accuracy **94.1%** and still rising. "
                "About **19 minutes** left, **$1.53** so far of a $4.00 limit."
            ),
            Pill("run", "Training"),
            breadcrumbs=[Crumb("Training", "#"), Crumb("parts-resnet50 #18")],
            tabs=[
                Tab("Overview", "#", True),
                Tab("Metrics", "#", count=14),
                Tab("Logs", "#"),
                Tab("Checkpoints", "#", count=5),
                Tab("Configuration", "#"),
                Tab("Events", "#", count=12),
            ],
            actions=[Action("Clone", "#", "copy"), Action("Cancel run", "#", "x", "danger", "post", busy="Cancelling")],
            state="67%",
            live=RUN,
        ),
        "progress": Progress(6412 / 9600, large=True),
        "stats": [
            Stat("Training loss", "0.214", "0.231 at step 6,000"),
            Stat("Validation accuracy", "94.1%", "best so far, step 6,400"),
            Stat("Samples a second", "1,436", "359 a GPU"),
            Stat("Time left", "19 min", "ends about 11:02"),
            Stat("Cost so far", "$1.53", "$1.95/h, limit $4.00"),
            Stat("Last checkpoint", "6,400", "14 s ago, 97.8 MB"),
        ],
        "loss": Chart("loss", "Loss", "/json/loss", "falls from 3.2 to 0.21", live=RUN),
        "accuracy": Chart(
            "accuracy", "Validation accuracy", "/json/accuracy", "rises to 94.1%", note="by step", live=RUN
        ),
        "timeline": PhaseTimeline(
            [
                PhasePart("Waiting for capacity", 38, "wait"),
                PhasePart("Starting machines", 205, "s3"),
                PhasePart("Loading image and data", 96, "s1"),
                PhasePart("Training", 1400, "run"),
                PhasePart("Lost to 1 interruption", 154, "lost"),
                PhasePart("Training", 887, "run"),
            ]
        ),
        "log": LogView("log", "/json/log", True, "#", sources=["rank 0", "rank 1"]),
        "facts": [
            KeyValue("Id", "run_01k7fz3m9q", mono=True, copy=True, full="run_01k7fz3m9qexampleexample00"),
            KeyValue("Recipe", "image_classifier, ResNet-50"),
            KeyValue("Dataset", "parts-photos v4", "#"),
            KeyValue("Strategy", "data parallel, DDP, bf16"),
            KeyValue("Processes", "4, one a machine"),
            KeyValue("Checkpoints", "every 200 steps, last 3 and best"),
            KeyValue("Started by", "developer, 09:56 UTC"),
        ],
        "call": [
            CodeTab(
                "curl",
                "curl -s $URL/infer \\\n  "
                '-H "Authorization: Bearer $WINDLASS_KEY" \\\n  -d @digit.json\n# {"label": "3"}',
                "shell",
            ),
            CodeTab(
                "Python",
                'import httpx\nanswer = httpx.post("http://127.0.0.1:8080/x", json={})\nprint(answer.json())',
                "python",
            ),
        ],
    }


class SignInForm(forms.Form):
    login = forms.EmailField(label="Email")
    password = forms.CharField(label="Password", widget=forms.PasswordInput)
    remember = forms.BooleanField(label="Remember me", required=False)


PAGES = {
    "sign_in": ("", lambda: {"form": SignInForm(), "first_sign_in": True}),
    "components": ("Settings", components),
    "training_run": ("Training", training_run),
    "overview": (
        "Overview",
        lambda: {
            "page": Page("Overview", pill=Pill("run", "Live")),
            "digit": DIGIT,
            "started": Pill("off", "Not started"),
            "ready": Pill("ok", "Ready"),
        },
    ),
    "certificate": (
        "Exports",
        lambda: {
            "page": Page(
                "ONNX, static int8, of parts-resnet50 v7",
                bold(
                    "**3.9 times smaller and 2.7 times faster, for 0.25 points of accuracy.** "
                    "Agreement is close to its limit."
                ),
                Pill("ok", "Certified"),
                breadcrumbs=[Crumb("Exports", "#"), Crumb("parts-resnet50 v7", "#"), Crumb("ONNX, static int8")],
                actions=[Action("Download", "#", "download"), Action("Deploy", "#", "radio-tower", "primary")],
            ),
            "lines": [
                LoadLine(0.25, 0.5, "0.25 of at most 0.50 points"),
                LoadLine(22, 24, "22 of at most 24 differ"),
                LoadLine(96, 80, "96 of at most 80"),
            ],
            "facts": [
                KeyValue("Export", "exp_01k7c31p", mono=True),
                KeyValue("File", "sha256 3be1…5f18", mono=True, copy=True, full="3be1" * 16),
            ],
        },
    ),
}
