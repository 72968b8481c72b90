"""The unmodified mlflow client traces through this server: decorators, spans, assessments, searches."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.test_mlflow import mlflow
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_traces_are_logged_read_tagged_and_assessed(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        from mlflow.entities import AssessmentSource, SpanType
        experiment = mlflow.set_experiment("traced").experiment_id

        @mlflow.trace(span_type=SpanType.TOOL)
        def look_up(key, deep=None):
            return {"found": [1, 2.5, None, True], "key": key, "deep": deep}

        @mlflow.trace(name="answer", attributes={"team": "red", "size": 3})
        def answer(question):
            with mlflow.start_span("think", span_type=SpanType.CHAIN) as span:
                span.set_inputs({"question": question})
                span.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})
                span.add_event(mlflow.entities.SpanEvent("noted", attributes={"a": 1}))
                found = look_up("ü", deep={"aKey": [{"b": None}]})
                span.set_outputs(found)
            mlflow.update_current_trace(
                tags={"colour": "blue"},
                metadata={"mlflow.trace.session": "s-1", "mlflow.trace.user": "eve"},
                client_request_id="client-1",
            )
            return "it is " + found["key"]

        @mlflow.trace
        def fail():
            raise ValueError("no such luck")

        with mlflow.start_run() as run:
            assert answer("what?") == "it is ü"
        first = mlflow.get_last_active_trace_id()
        try:
            fail()
        except ValueError:
            pass
        second = mlflow.get_last_active_trace_id()
        mlflow.flush_trace_async_logging()

        trace = mlflow.get_trace(first)
        info = trace.info
        assert (info.state, info.client_request_id, info.experiment_id) == ("OK", "client-1", experiment), info
        assert info.trace_metadata["mlflow.trace.session"] == "s-1" and info.trace_metadata["mlflow.sourceRun"] == run.info.run_id
        assert info.token_usage == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}, info.token_usage
        assert info.tags["colour"] == "blue" and info.tags["mlflow.traceName"] == "answer"
        names = {span.name: span for span in trace.data.spans}
        assert set(names) == {"answer", "think", "look_up"} and trace.data.spans[0].name == "answer"
        assert names["think"].parent_id == names["answer"].span_id and names["look_up"].parent_id == names["think"].span_id
        assert names["answer"].inputs == {"question": "what?"} and names["answer"].outputs == "it is ü"
        assert names["look_up"].outputs == {"found": [1, 2.5, None, True], "key": "ü", "deep": {"aKey": [{"b": None}]}}
        assert names["answer"].attributes["size"] == 3 and names["look_up"].span_type == "TOOL"
        assert names["think"].events[0].name == "noted" and names["think"].end_time_ns > names["think"].start_time_ns
        failed = mlflow.get_trace(second)
        assert failed.info.state == "ERROR" and failed.data.spans[0].status.status_code.value == "ERROR"
        assert "no such luck" in failed.data.spans[0].events[0].attributes["exception.message"]

        mlflow.set_trace_tag(first, "reviewed", "yes")
        mlflow.set_trace_tag(first, "wrong", "tag")
        mlflow.delete_trace_tag(first, "wrong")
        tags = mlflow.get_trace(first).info.tags
        assert tags["reviewed"] == "yes" and "wrong" not in tags
        try:
            mlflow.delete_trace_tag(first, "absent")
        except MlflowException as error:
            assert error.error_code == "RESOURCE_DOES_NOT_EXIST"

        human = AssessmentSource(source_type="HUMAN", source_id="eve")
        good = mlflow.log_feedback(trace_id=first, name="correct", value=True, source=human, rationale="so", metadata={"aKey": "v"})
        mlflow.log_feedback(trace_id=first, name="score", value=0.75, span_id=names["think"].span_id)
        mlflow.log_feedback(trace_id=second, name="correct", error=ValueError("judge broke"))
        wanted = mlflow.log_expectation(trace_id=first, name="facts", value={"theKey": [None, "x"]})
        mlflow.log_expectation(trace_id=first, name="short", value="ü")
        read = mlflow.get_assessment(first, good.assessment_id)
        assert (read.value, read.rationale, read.metadata, read.source.source_id) == (True, "so", {"aKey": "v"}, "eve"), read
        assert mlflow.get_assessment(first, wanted.assessment_id).value == {"theKey": [None, "x"]}
        better = mlflow.override_feedback(trace_id=first, assessment_id=good.assessment_id, value=False, rationale="no")
        mine = {a.assessment_id: a for a in mlflow.get_trace(first).info.assessments}
        assert mine[good.assessment_id].valid is False and mine[better.assessment_id].overrides == good.assessment_id
        mlflow.update_assessment(first, wanted.assessment_id, mlflow.entities.Expectation(name="facts", value=[1, 2]))
        assert mlflow.get_assessment(first, wanted.assessment_id).value == [1, 2]
        mlflow.delete_assessment(first, better.assessment_id)
        assert mlflow.get_assessment(first, good.assessment_id).valid is True
        broken = [a for a in mlflow.get_trace(second).info.assessments][0]
        assert broken.error.error_message == "judge broke" and broken.error.error_code == "ValueError"

        def found(filter, **more):
            traces = mlflow.search_traces(
                locations=[experiment], filter_string=filter, return_type="list", include_spans=False, **more
            )
            return [{first: "first", second: "second"}[one.info.trace_id] for one in traces]

        searches = {
            "": found(None),
            "asc": found(None, order_by=["timestamp_ms ASC"]),
            "one": found(None, max_results=1),
        }
        for filter in [
            "status = 'ERROR'", "trace.status != 'ERROR'", "name = 'answer'", "trace.name LIKE 'fa%'", "tags.colour = 'blue'",
            "tag.colour IS NULL", "metadata.`mlflow.trace.session` = 's-1'",
            f"run_id = '{run.info.run_id}'", "client_request_id = 'client-1'",
            "timestamp_ms > 0 AND execution_time_ms >= 0", "span.name = 'look_up'", "span.type = 'TOOL' AND span.name = 'think'",
            "span.attributes.team = 'red'", "span.status = 'ERROR'", "span.content LIKE '%what?%'", "trace.text ILIKE '%WHAT%'",
            "feedback.correct = 'true'",
            "feedback.score > 0.5", "feedback.score < 0.5", "expectation.short = 'ü'", "feedback.correct IS NULL",
            "name RLIKE '^ans'", f"request_id IN ('{second}')",
        ]:
            searches[filter] = found(filter)
        frame = mlflow.search_traces(locations=[experiment])
        spans = {len(one) for one in frame["spans"]}
        print(json.dumps({"searches": {k.replace(run.info.run_id, "RUN").replace(second, "SECOND"): v for k, v in searches.items()},
                          "spans": sorted(spans), "rows": len(frame)}))
        """,
        cwd=tmp_path,
    )
    only_first, only_second = ["first"], ["second"]
    assert told["searches"] == {
        "": ["second", "first"],
        "asc": ["first", "second"],
        "one": only_second,
        "status = 'ERROR'": only_second,
        "trace.status != 'ERROR'": only_first,
        "name = 'answer'": only_first,
        "trace.name LIKE 'fa%'": only_second,
        "tags.colour = 'blue'": only_first,
        "tag.colour IS NULL": only_second,
        "metadata.`mlflow.trace.session` = 's-1'": only_first,
        "run_id = 'RUN'": only_first,
        "client_request_id = 'client-1'": only_first,
        "timestamp_ms > 0 AND execution_time_ms >= 0": ["second", "first"],
        "span.name = 'look_up'": only_first,
        "span.type = 'TOOL' AND span.name = 'think'": [],
        "span.attributes.team = 'red'": only_first,
        "span.status = 'ERROR'": only_second,
        "span.content LIKE '%what?%'": only_first,
        "trace.text ILIKE '%WHAT%'": only_first,
        "feedback.correct = 'true'": only_first,
        "feedback.score > 0.5": only_first,
        "feedback.score < 0.5": [],
        "expectation.short = 'ü'": only_first,
        "feedback.correct IS NULL": [],
        "name RLIKE '^ans'": only_first,
        "request_id IN ('SECOND')": only_second,
    }
    assert (told["spans"], told["rows"]) == ([1, 3], 2)


def test_traces_are_paged_linked_and_deleted(server: Server, tmp_path: Path) -> None:
    told = mlflow(
        server,
        """
        experiment = mlflow.set_experiment("many traced").experiment_id
        for n in range(25):
            with mlflow.start_span(f"n{n}") as span:
                span.set_inputs(n)
        mlflow.flush_trace_async_logging()
        pages, token = [], None
        while True:
            page = client.search_traces(locations=[experiment], max_results=10, page_token=token, include_spans=True)
            pages.append([trace.data.spans[0].inputs for trace in page])
            token = page.token
            if not token:
                break
        traces = client.search_traces(locations=[experiment], max_results=100, include_spans=False)
        ids = [trace.info.trace_id for trace in traces]
        with mlflow.start_run() as run:
            pass
        client.link_traces_to_run(ids[:3], run.info.run_id)
        linked = mlflow.search_traces(locations=[experiment], filter_string=f"run_id = '{run.info.run_id}'", return_type="list")
        by_id = client.delete_traces(experiment_id=experiment, trace_ids=ids[:2])
        by_time = client.delete_traces(experiment_id=experiment, max_timestamp_millis=traces[0].info.request_time, max_traces=5)
        left = len(client.search_traces(locations=[experiment], max_results=100, include_spans=False))
        try:
            client.get_trace(ids[0])
            gone = ""
        except MlflowException as error:
            gone = error.error_code
        print(json.dumps([pages, len(linked), by_id, by_time, left, gone]))
        """,
        cwd=tmp_path,
    )
    pages, linked, by_id, by_time, left, gone = told
    assert [len(page) for page in pages] == [10, 10, 5]
    assert sorted(one for page in pages for one in page) == list(range(25))
    assert (linked, by_id, by_time, left, gone) == (3, 2, 5, 18, "RESOURCE_DOES_NOT_EXIST")
