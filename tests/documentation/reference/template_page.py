"""The page of headers, artifacts and variables of managed files, from the tables of the program."""

from __future__ import annotations

from pki.common.file_headers import DEFAULTS, HEADERS
from pki.pipeline.artifact_files import CONTENTS
from pki.pipeline.template_context import VARIABLES
from tests.documentation.reference.markdown import code, prose, table


def text() -> str:
    """Return the page."""
    return "\n".join(
        [
            (
                "# Headers, artifacts and variables of templates\n\n"
                "[Managed files](managed-files.md) explains how they are used.\n"
            ),
            "## Headers\n\nHeaders are in the leading comment lines of a file in `templates/`.\n",
            table(
                ("header", "default", "meaning"),
                [(code(name), code(DEFAULTS.get(name, "")), prose(meaning)) for name, meaning in HEADERS.items()],
            ),
            (
                "## Artifacts\n\n"
                "For `deploy-artifact` and `artifact(…)`. LEAF is a certificate, such as `media-mtls` or `client-admin`. AUTHORITY is\n"
                "`root`, `server`, `client`, `all` (of these three), or the name of an adopted CA.\n"
            ),
            table(("artifact", "content"), [(code(name), prose(content)) for name, content in CONTENTS.items()]),
            "## Variables\n\nIn bodies and headers. `[]` is an entry of a list.\n",
            table(("variable", "meaning"), [(code(name), prose(meaning)) for name, meaning in VARIABLES.items()]),
            (
                "## Example\n\n"
                "```nginx\n"
                "# deploy-target: /etc/nginx/conf.d/names.conf\n"
                "# deploy-hosts: proxy:nginx\n"
                "# deploy-validate: nginx -t\n"
                "# deploy-reload: {{ host.reload }}\n"
                "{% for service in services %}\n"
                '# {{ service.name }}: {{ service.names | join(", ") }}, certificate {{ service.leaf }}\n'
                "{% endfor %}\n"
                "```\n"
            ),
        ]
    )
