#!/usr/bin/env bash
# All that the command line does, with curl alone: for each verb the request that it makes.
#
# It needs a server and a worker; it submits small jobs of the group "curl", and leaves them there.
# The API is described at /docs and /openapi.json of the server.
set -euo pipefail

folder=${DUPLEX_RUNNER_DATA_DIR:?set it to the data directory of the server}
url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$folder/server.json")/api/v1

# The token goes to curl by a file of its own: other users can see command lines.
api() { curl --fail-with-body -sS -H @<(printf 'Authorization: Bearer %s' "$(<"$folder/token")") "$@"; }
json() { api "$@"; echo; }
# The value of a field in a line of JSON; the last one, if there are several.
field() { sed "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/"; echo; }
verb() { printf '\n== queued-runner %s\n' "$*"; }

verb submit
job=$(api "$url/jobs" -H 'Idempotency-Key: curl-'$$ -d '{
  "command": "sh", "args": ["-c", "echo out; echo err >&2; exit 3"], "name": "hello", "group": "curl"
}' | field id)
json "$url/jobs" -d '[{"command": "true", "group": "curl"}, {"command": "true", "group": "curl"}]'

verb wait
api "$url/jobs/$job?wait=60" | field exit_code

verb ps
json "$url/jobs?group=curl&limit=2"                          # the newest; the next page: &before=ID
json "$url/jobs?state=queued&name=hello"

verb show
json "$url/jobs/$job"
json "$url/jobs/$job/attempts"

verb logs
api "$url/jobs/$job/logs"                                   # both streams as they were written
api "$url/jobs/$job/logs?stream=stderr&tail=20"

verb run                                                    # submit, follow to the end, exit as it did
job=$(api "$url/jobs" -d '{"command": "echo", "args": ["live"], "group": "curl"}' | field id)
api -N "$url/jobs/$job/logs/stream" | sed '/^event: end/q'  # live; -H "Last-Event-ID: …" resumes
api "$url/jobs/$job?wait=60" | field exit_code

verb cancel
job=$(api "$url/jobs" -d '{"command": "sleep", "args": ["60"], "group": "curl"}' | field id)
api "$url/jobs/$job/cancel" -d '{"signal": "SIGINT", "grace": 5}' | field id
api "$url/jobs/$job?wait=60" | field state

verb retry
json -X POST "$url/jobs/$job/retry"
api "$url/jobs/$job/cancel" -X POST | field id

verb explain
json "$url/jobs/$job/explain"

verb results
json "$url/jobs/$job/results"

verb prune
json "$url/prune" -d '{"older_than": 3600, "keep_failed": true}'

verb servers
json "$url/servers"

verb workers
json "$url/workers"
worker=$(api "$url/workers" | field id)

verb drain
api -X POST "$url/workers/$worker/drain" | field state

verb resume
api -X POST "$url/workers/$worker/resume" | field state

verb events
api "$url/events?follow=0&group=curl" | sed -n 's/^data: //p'    # without follow=0: for ever

# What no verb is for.
json "$url/groups/curl"
root=${url%/api/v1}
curl -fsS "$root/healthz" "$root/readyz" -o /dev/null            # these need no token
api "$root/metrics" | grep '^duplex_runner_jobs_added_total'
api "$root/openapi.json" -o /dev/null
