"""The shapes of answers about workers, lanes, health and numbers, for the OpenAPI document."""

from __future__ import annotations

from api.views.schemas import PRIORITIES

from api.views.shapes import (  # isort: skip
    Shape, array, boolean, count, integer, many, mapping, maybe_boolean, maybe_integer, maybe_number, maybe_string,
    number, ref, shape, string, strings, time,
)  # fmt: skip

#: Members that older workers' leases lack.
_OPTIONAL = ("intra_op_threads", "cpu_count", "versions", "configured", "precision", "fast")
_WORKER: dict[str, Shape] = {
    "id": string("Its name"),
    "url": string("Empty: workers have no address, they pull"),
    "model": string("The model it serves"),
    "status": string("healthy while it holds its lease", enum=["healthy", "unhealthy"]),
    "state": string("idle, busy, draining, or silent when its lease has expired"),
    "load": number("Share of its places in use", minimum=0, maximum=1),
    "errors": count("Requests that failed in it"),
    "avg_latency": maybe_number("Recent mean seconds of inference per request; null before the first"),
    "started_at": time("When it started serving"),
    "last_heartbeat": time("When its lease was last renewed"),
    "in_flight": count("Requests it has"),
    "device": maybe_string("cpu, cuda:0, ..."),
    "runtime": maybe_string("onnxruntime, openvino or torch"),
    "precision": maybe_string("The numbers it computes in"),
    "fast": maybe_string("What PRECISION=fast would bring or brings; empty if that is not known"),
    "weights": maybe_string("Origin of its weights"),
    "version": maybe_string("Version of its model"),
    "rss_bytes": maybe_integer(),
    "pid": maybe_integer(),
    "host": maybe_string("Its host"),
    "concurrency": count("Its places: requests it takes at a time"),
    "processed": count("Requests it has answered"),
    "failed": count("Requests that failed in it"),
    "cpu_seconds": number("Its processor time in seconds"),
    "chaos": maybe_string("The injected fault; null unless faults are enabled"),
    "service_seconds": maybe_number("Recent mean seconds of inference per request"),
    "intra_op_threads": integer("Threads of one forward pass on a CPU"),
    "cpu_count": integer("Cores available to it"),
    "versions": mapping("package -> version", string()),
    "configured": mapping("Settings in which it must agree with the API"),
}

#: The numbers of the first version of this API.
_STATS: dict[str, Shape] = {
    "workers_active": count("Live workers"),
    "requests_total": count("Requests accepted"),
    "requests_success": count("Requests answered"),
    "requests_failed": count("Requests that failed or expired"),
    "avg_latency": maybe_number("Mean seconds from acceptance to the end over METRICS_WINDOW; null before the first"),
}
_TOTALS: dict[str, Shape] = {
    "total_requests": count("Requests accepted"),
    "successful_requests": count("Requests answered"),
    "failed_requests": count("Requests that failed or expired"),
}
_STATUS: dict[str, Shape] = {
    "status": string("healthy, degraded or unhealthy", enum=["healthy", "degraded", "unhealthy"]),
    "reasons": strings("Details of the findings"),
    "findings": many("Finding", "The same for programs, with what to do"),
    "version": string("Version of Inferlane"),
    "uptime": number("Seconds this API process has run"),
}

#: Component name -> shape.
SYSTEM: dict[str, Shape] = {
    "Model": shape(
        name=string("Its value of model_type"),
        version=maybe_string("Version"),
        architecture=maybe_string("Architecture"),
        input_size={"description": "Side of the square the image is cut to, in pixels"},
        labels=maybe_integer("Number of classes"),
        weights=strings("Weights of its live workers"),
        runtimes=strings("Runtimes of its live workers"),
        live_workers=count("Workers that serve it now"),
        available=boolean("Whether a worker serves it now"),
    ),
    "Models": shape(models=many("Model", "By name")),
    "Worker": shape(_WORKER, optional=_OPTIONAL),
    "Workers": shape(
        workers=many("Worker", "By name"),
        total_active=count("How many hold their lease"),
        total_requests=count("Requests that they have answered or that failed in them"),
        total_workers=count("How many"),
        healthy_workers=count("How many take work"),
        timestamp=time("Time of this snapshot"),
    ),
    "Lane": shape(
        lane=string("Its name"),
        priority=string(enum=PRIORITIES),
        model=string("The model it belongs to, or any"),
        depth=count("Requests waiting"),
        running=count("Requests with a worker"),
        oldest_age=maybe_number("Age of the oldest queued request in seconds"),
        rate_in=maybe_number("Requests accepted per second, recently"),
        rate_out=maybe_number("Requests ended per second, recently"),
        eta=maybe_number("Expected seconds until a request accepted now is answered"),
        paused=boolean(),
    ),
    "Queue": shape(
        size=count("Requests waiting in all lanes"),
        high_priority=count("Of these, high"),
        normal_priority=count("Of these, normal"),
        low_priority=count("Of these, low"),
        max_size=count("Requests a lane holds at most"),
        lanes=many("Lane", "Every lane that exists"),
        timestamp=time("Time of this snapshot"),
    ),
    "Metrics": shape(
        _STATS | _TOTALS,
        success_rate=maybe_number("successful / (successful + failed); null before the first"),
        average_processing_time=maybe_number("Mean or median seconds from acceptance to the end"),
        requests_per_second=maybe_number("Requests ended per second, recently"),
        queue_size=count("Requests waiting"),
        active_workers=count("Live workers"),
        latency_p50=maybe_number("Median of these seconds"),
        latency_p95=maybe_number("95th percentile of these seconds"),
        latency_p99=maybe_number("99th percentile of these seconds"),
        uptime=number("Seconds this API process has run"),
        timestamp=time("Time of this snapshot"),
        ledger=mapping("lane -> state -> requests"),
        counters=mapping(values=number()),
        latencies=mapping("stage -> p50, p95, p99 in seconds, count"),
    ),
    "Liveness": shape(status=string("Always alive", enum=["alive"])),
    "Check": shape(name=string("Name of the check"), ok=boolean(), detail=string("Result of the check")),
    "Readiness": shape(
        status=string("ready or not_ready", enum=["ready", "not_ready"]),
        checks=many("Check", "Every condition"),
    ),
    "Finding": shape(
        code=string("Kind of finding, for programs"),
        severity=string(
            "problem: requests are refused, fail or are not served; warning: they are late", enum=["problem", "warning"]
        ),
        detail=string("What it is"),
        remedy=string("What to do"),
    ),
    "Stats": shape(_STATS),
    "Health": shape(
        _STATUS | _TOTALS,
        timestamp=time("Time of this snapshot"),
        broker=string("up or down", enum=["up", "down"]),
        workers=mapping("total, idle, busy, draining and per model"),
        queue_size=count("Requests waiting"),
        stats=ref("Stats"),
    ),
    "Diagnosis": shape(
        name=string("Name of the check"),
        ok=maybe_boolean("null if unknown"),
        detail=string("Result of the check"),
        remedy=string("What to do; empty if the check passed"),
    ),
    "Diagnoses": shape(
        checks=many("Diagnosis", "Every check; the same names in the same order each time"),
        timestamp=time("Time of this snapshot"),
    ),
    "Order": shape(
        target=string("The lane or the worker"),
        order=string("The order"),
        effective_within=number("Seconds until it takes effect"),
    ),
    "Purge": shape(target=string("The lane"), order=string("purge"), canceled=integer("Number of canceled requests")),
    "History": shape(
        as_of=string("Time of this snapshot", format="date-time"),
        step=integer("Minutes per row"),
        history=array(mapping(), "A row per step, oldest first"),
        closed=True,
    ),
    "Activity": shape(
        at=string("When; RFC 3339, UTC", format="date-time"),
        what=string("The called route"),
        who=string("The caller's address"),
        closed=True,
    ),
    "FleetEvent": shape(
        at=string("When; RFC 3339, UTC", format="date-time"),
        event=string("left: stopped; lost: its lease expired", enum=["joined", "left", "lost"]),
        worker=string("Its node name"),
        model=string(),
        held=integer("Requests held by a lost worker"),
        closed=True,
    ),
    "Snapshot": shape(
        _STATUS,
        as_of=string("Time of this snapshot", format="date-time"),
        chaos_enabled=boolean(),
        max_queue=integer(),
        workers=many("Worker"),
        lanes=many("Lane"),
        paused=mapping("lane -> who paused it and when"),
        ledger=mapping(values=integer()),
        counters=mapping(values=integer()),
        latencies=mapping(),
        history=array(mapping(), "A row per minute, oldest first"),
        requests=many("Request", "Newest first"),
        dead_letters=integer(),
        models=many("Model"),
        activity=many("Activity"),
        silent=many("Worker", "Workers whose lease has run out and whose work nobody has taken over yet"),
        fleet_events=many("FleetEvent", "Newest first"),
        closed=True,
    ),
}
