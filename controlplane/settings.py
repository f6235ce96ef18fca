"""Django's settings, all of them derived from `controlplane.configuration`."""

from urllib.parse import urlsplit

from controlplane import configuration, installation
from controlplane.console import UNFOLD  # noqa: F401 - the admin console's own setting
from controlplane.database import database_settings
from controlplane.embedded.door import door_plan
from controlplane.logs import logging_settings
from controlplane.security import content_security_policy
from controlplane.storage import storage_settings

CONFIGURATION = configuration.load()
BASE_DIR = configuration.PROJECT
KEYS = installation.keys(CONFIGURATION)

# --- what Windlass itself reads -----------------------------------------------------------------------------------
WINDLASS_VAR = CONFIGURATION.var
WINDLASS_WORKLOADS_DIRECTORY = CONFIGURATION.workloads_directory
WINDLASS_GATEWAY_DIRECTORY = CONFIGURATION.var / "gateway"
WINDLASS_KEYS = KEYS.by_id
WINDLASS_HOST_ID = installation.host_id(CONFIGURATION)
WINDLASS_HOST_NAME = CONFIGURATION.host_name
WINDLASS_HOST_ADDRESS = CONFIGURATION.host_address
WINDLASS_HOST_CPUS = CONFIGURATION.host_cpus
WINDLASS_HOST_MEMORY_BYTES = CONFIGURATION.host_memory_bytes
WINDLASS_HINTS = CONFIGURATION.hints
WINDLASS_TIME_SCALE = CONFIGURATION.time_scale
WINDLASS_ALLOW_UNCAGED_SCRIPTS = CONFIGURATION.allow_uncaged_scripts
WINDLASS_PYTHON = CONFIGURATION.python
WINDLASS_ALLOWED_PRIVATE_CIDRS = CONFIGURATION.allowed_private_cidrs
WINDLASS_IMAGE = CONFIGURATION.image
WINDLASS_PUBLIC_URL = CONFIGURATION.web_url
WINDLASS_GATEWAY = CONFIGURATION.gateway
WINDLASS_SHARED_GATEWAY_QUEUE = CONFIGURATION.shared_gateway_queue
WINDLASS_GATEWAY_ADMIN_SOCKET = CONFIGURATION.gateway_admin_socket
WINDLASS_PARTS_URL = CONFIGURATION.parts_address
WINDLASS_GATEWAY_URL = CONFIGURATION.predictions_url
WINDLASS_DATABASE_URL = CONFIGURATION.database_url  # "" where it is embedded, which other machines reach by the door
WINDLASS_REDIS_URL = CONFIGURATION.redis_url
WINDLASS_DOOR_DIRECTORY = CONFIGURATION.var / "door"
WINDLASS_DOOR = door_plan(CONFIGURATION) if CONFIGURATION.hosts_port else None

# --- the framework ------------------------------------------------------------------------------------------------
SECRET_KEY, *SECRET_KEY_FALLBACKS = KEYS.derived("django.SECRET_KEY")
DEBUG = CONFIGURATION.debug
PUBLIC = urlsplit(WINDLASS_PUBLIC_URL)
ALLOWED_HOSTS = list(
    dict.fromkeys(
        [
            str(PUBLIC.hostname),
            "localhost",
            "127.0.0.1",
            "[::1]",
            CONFIGURATION.reachable_bind,
            str(urlsplit(WINDLASS_PARTS_URL).hostname),
            *CONFIGURATION.allowed_hosts,
        ]
    )
)
CSRF_TRUSTED_ORIGINS = [WINDLASS_PUBLIC_URL]
ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": database_settings(CONFIGURATION.database)}
STORAGES = {
    "default": storage_settings(CONFIGURATION.storage, CONFIGURATION.var / "storage"),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
LOGGING = logging_settings(CONFIGURATION.log_level)

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "allauth",
    "allauth.account",
    "django_htmx",
    "django_celery_beat",
    "csp",
    "apps.core",
    "apps.accounts",
    "apps.registry",
    "apps.training",
    "apps.exports",
    "apps.clouds",
    "apps.clusters",
    "apps.deployments",
    "apps.examples",
    "apps.placements",
]
MIDDLEWARE = [
    "apps.core.middleware.request_context",
    "django.middleware.security.SecurityMiddleware",
    "controlplane.security.PolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.core.context.frame",
            ]
        },
    }
]

# --- time, language, files ----------------------------------------------------------------------------------------
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = True
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # nothing has to be collected before the first page
WHITENOISE_MAX_AGE = 600
FILE_UPLOAD_TEMP_DIR = None
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024

# --- who is it ----------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_ADAPTER = "apps.accounts.adapter.Adapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

# --- headers ------------------------------------------------------------------------------------------------------
SECURE = PUBLIC.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "__Host-windlass-session" if SECURE else "windlass-session"
CSRF_COOKIE_NAME = "__Host-windlass-csrf" if SECURE else "windlass-csrf"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = content_security_policy()

# --- the API ------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Windlass",
    "DESCRIPTION": "Train, export, deploy and serve models.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- jobs ---------------------------------------------------------------------------------------------------------
# Short time limits everywhere: a broker that is away must slow nothing down, since sweeps find what is due anyway.
CELERY_BROKER_URL = CONFIGURATION.broker
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "visibility_timeout": 3600,
    "max_retries": 1,
    "interval_start": 0,
    "interval_max": 0.2,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_TIME_LIMIT = 50
CELERY_TASK_DEFAULT_QUEUE = "reconcile"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_IMPORTS = ("workers.tasks",)
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_POOL = "prefork"
CELERY_WORKER_CONCURRENCY = CONFIGURATION.worker_concurrency
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 2000
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_BEAT_SYNC_EVERY = 1  # the health page reads when each job ran last

import controlplane.celery  # noqa: E402, F401 - makes it the current application in every process that knows Django
