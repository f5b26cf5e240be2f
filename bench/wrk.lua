-- What wrk sends when there is a body, and its totals as one line of JSON. It looks at no answer: that would cost wrk
-- more than the answer costs the server; whether every answer came from the API is checked at the API.
local length = tonumber(os.getenv("BENCH_BODY") or "0")
if length > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", length)
  wrk.headers["Content-Type"] = "application/octet-stream"
end

done = function(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'TOTALS {"requests":%d,"microseconds":%d,"bytes":%d,"median":%d,"p99":%d,"failed":%d,"broken":%d,"late":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
