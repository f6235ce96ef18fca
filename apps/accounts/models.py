"""Who may do what: users, workspaces, memberships, API keys; secrets; and the audit trail."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models.functions import Now

from apps.core import ids
from apps.core.actor import Actor
from apps.core.models import Typed


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    DEVELOPER = "developer", "Developer"
    ADMIN = "admin", "Admin"


RANK = {Role.VIEWER.value: 1, Role.DEVELOPER.value: 2, Role.ADMIN.value: 3}


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    prefix = "usr"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    username = None  # type: ignore[assignment]
    email = models.EmailField("email address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.email

    @property
    def typed_id(self) -> str:
        return ids.typed(self.prefix, self.id)

    @property
    def actor(self) -> Actor:
        return Actor(f"user:{self.typed_id}", self.get_full_name() or self.email)


class Workspace(Typed):
    prefix = "wsp"

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    members = models.ManyToManyField(User, through="Membership", related_name="workspaces")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.DEVELOPER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "workspace"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace}: {self.role}"


class ApiKey(Typed):
    """An opaque 256-bit secret, stored as its SHA-256 only.

    `role`: what it may do in the REST API ("" is nothing); `may_predict`: whether deployments answer it, all of the
    workspace or only those named in `deployments`.
    """

    prefix = "key"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    hint = models.CharField(max_length=16)
    sha256 = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=16, choices=Role.choices, default="", blank=True)
    may_predict = models.BooleanField(default=True)
    deployments = models.JSONField(default=list, blank=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def actor(self) -> Actor:
        return Actor(f"key:{self.typed_id}", f"key “{self.name}”")


class SignInLink(models.Model):
    """Signs its user in once; only its SHA-256 is stored."""

    sha256 = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"for {self.user}"


class Secret(Typed):
    """A named value that workloads may be given as a file. Write-only: no page, API or admin shows it again."""

    prefix = "sec"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="secrets")
    name = models.SlugField(max_length=60)
    sealed = models.TextField(editable=False)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="secret_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """One security-relevant act. Append-only."""

    at = models.DateTimeField(db_default=Now())
    workspace = models.ForeignKey(Workspace, models.SET_NULL, null=True, related_name="+")
    actor = models.CharField(max_length=120)
    actor_name = models.CharField(max_length=200)
    address = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=64, default="", blank=True)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=200, default="", blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["workspace", "-id"], name="audit_workspace")]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
