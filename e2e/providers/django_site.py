# A Django site of one file with django-oauth-toolkit: an ordinary OAuth server with OpenID Connect switched on.
#
#     python django_site.py SETTINGS
#
# SETTINGS is a JSON file: {directory, port, client_id, client_secret, redirect_uri, post_logout_redirect_uri, users,
# password, access_token_ttl, signing_key}. It serves on 127.0.0.1 until it is ended, and keeps its database in `directory`.
# It is not for production: passwords are hashed so that tests are quick.

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

ASKED = json.load(open(sys.argv[1], encoding="utf-8"))

PAGE = """<form method="post">{% csrf_token %}{{ form.as_p }}
<input type="hidden" name="next" value="{{ next }}"><input type="submit" value="Log in"></form>"""

settings.configure(
    SECRET_KEY=os.urandom(32).hex(),
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(ASKED["directory"], "django.sqlite3"),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": ["django.template.context_processors.request"],
                "loaders": [
                    ("django.template.loaders.locmem.Loader", {"registration/login.html": PAGE}),
                    "django.template.loaders.app_directories.Loader",
                ],
            },
        }
    ],
    LOGIN_URL="/login/",
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    },
    OAUTH2_PROVIDER={
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": ASKED["signing_key"],
        "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
        "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
        "SCOPES": {"openid": "who you are", "profile": "your name", "orders": "your orders"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": ASKED["access_token_ttl"],
        "REFRESH_TOKEN_EXPIRE_SECONDS": 3600,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
    },
)
sys.modules.setdefault("django_site", sys.modules[__name__])
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402  (after setup)
from django.contrib.auth.views import LoginView  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    """Names in the ID token, as many sites have them."""

    oidc_claim_scope = None

    def get_additional_claims(self, request):
        return {"name": request.user.get_full_name(), "preferred_username": request.user.get_username()}


urlpatterns = [
    path("login/", LoginView.as_view()),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


def provision():
    for name in ASKED["users"]:
        get_user_model().objects.create_user(name, password=ASKED["password"], first_name=name.capitalize())
    application = get_application_model()
    application.objects.create(
        name="the shop",
        client_id=ASKED["client_id"],
        client_secret=ASKED["client_secret"],
        client_type=application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=application.GRANT_AUTHORIZATION_CODE,
        redirect_uris=ASKED["redirect_uri"],
        post_logout_redirect_uris=ASKED["post_logout_redirect_uri"],
        algorithm=application.RS256_ALGORITHM,
    )


call_command("migrate", verbosity=0)
provision()
call_command("runserver", f"127.0.0.1:{ASKED['port']}", use_reloader=False, skip_checks=True)
