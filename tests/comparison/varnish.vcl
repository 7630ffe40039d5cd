# Varnish before an App Configuration store. run.py fills in the words in braces. A line that begins with "@tokens" is left out for the
# configuration that knows nothing of Sync-Token; one with "@sign" is used only where the store demands signatures. var is of Debian's
# varnish-modules, digest of varnish-vmod-digest.
vcl 4.1;
import std;
import blob;
import var;
@sign import digest;

backend store { .host = "127.0.0.1"; .port = "{ORIGIN}"; .connect_timeout = 2s; }

sub vcl_recv {
    # Nothing that is not part of the key reaches the store.
    unset req.http.X-Forwarded-Host;
    unset req.http.Cookie;
    set req.http.Host = "127.0.0.1:{ORIGIN}";
    # The parameters in one order.
    set req.url = std.querysort(req.url);
    # All encodings of a path are one. Not so for the query: decoded as a whole, "%26" would become a separator.
    set req.http.X-Path = blob.transcode(decoding = URL, encoding = URL, case = UPPER, encoded = regsub(req.url, "\?.*", ""));
    set req.http.X-Query = regsub(req.url, "^[^?]*", "");
    unset req.http.X-Status;
    if (req.restarts == 0) {
        unset req.http.X-Stale;
        # What is stale is validated before it answers: one request, for which all callers wait. With a grace for a healthy store the
        # first callers after a pause would get what is stored, however old.
        set req.grace = 0s;
    } else {
        # The store has failed: what is stored answers, up to this age.
        set req.http.X-Stale = "1";
        set req.grace = {STALE}s;
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    return (hash);
}

sub vcl_hash {
    # One store, so Host is not part of the key.
    hash_data(req.http.X-Path + " " + req.http.X-Query);
    return (lookup);
}

sub vcl_hit {
    if (obj.ttl <= 0s) {
        set req.http.X-Status = "varnish; hit; detail=stale";
    } else {
        set req.http.X-Status = "varnish; hit";
    }
}

sub vcl_miss { set req.http.X-Status = "varnish; fwd=miss"; }
sub vcl_pass { set req.http.X-Status = "varnish; fwd=method"; }

sub vcl_backend_fetch {
    # A stale answer in an outage starts a fetch behind it, which would be one more request to a store that has just failed.
    if (bereq.is_bgfetch && bereq.http.X-Stale) {
        return (abandon);
    }
    # The store has named a pause.
    if (std.time2real(now, 0.0) < std.real(var.global_get("pause-until"), 0.0)) {
        return (error(429, "Too Many Requests"));
    }
    # The newest token of any answer. A store with several token ids would need a variable for each.
@tokens     if (var.global_get("token")) {
@tokens         set bereq.http.Sync-Token = var.global_get("token");
@tokens     }
    # A signature by the access key, for requests without a body: VCL knows no hash of a body. The key passes as text, so one that
    # has a zero byte cannot be used.
@sign     set bereq.http.x-ms-date = "" + now;
@sign     set bereq.http.x-ms-content-sha256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
@sign     set bereq.http.Authorization = "HMAC-SHA256 Credential={ID}&SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=" +
@sign         digest.base64_hex(regsub(digest.hmac_sha256(digest.base64_decode("{SECRET}"), bereq.method + {"
@sign "} + bereq.url + {"
@sign "} + bereq.http.x-ms-date + ";" + bereq.http.Host + ";" + bereq.http.x-ms-content-sha256), "^0x", ""));
    # For the answer, and not for the store.
    var.set("path", bereq.http.X-Path);
    unset bereq.http.X-Path;
    unset bereq.http.X-Query;
    unset bereq.http.X-Status;
    unset bereq.http.X-Stale;
}

sub vcl_backend_response {
    if (beresp.http.retry-after-ms && (beresp.status == 429 || beresp.status == 503)) {
        var.global_set("pause-until", "" + (std.time2real(now, 0.0) + std.real(beresp.http.retry-after-ms, 0.0) / 1000.0));
    }
    # Only upwards: an answer of a replica that lags must not replace a newer token.
@tokens     if (std.integer(regsub(beresp.http.Sync-Token, "^.*;sn=([0-9]+).*$", "\1"), 0) > std.integer(var.global_get("sequence"), 0)) {
@tokens         var.global_set("sequence", regsub(beresp.http.Sync-Token, "^.*;sn=([0-9]+).*$", "\1"));
@tokens         var.global_set("token", regsub(beresp.http.Sync-Token, ";.*$", ""));
@tokens     }
    if (bereq.method != "GET" && bereq.method != "HEAD") {
        # A write that was carried out: its key, and all lists, since a list may show it. Before its caller has the answer.
        if (beresp.status < 400) {
            ban("obj.http.X-Path == " + var.get("path"));
            ban("obj.http.X-Path == %2Fkv");
        }
        return (deliver);
    }
    if (beresp.status == 200 || beresp.status == 404) {
        set beresp.http.X-Path = var.get("path");
        # The store names no lifetime.
        if (beresp.status == 200) {
            set beresp.ttl = {LIFETIME}s;
        } else {
            set beresp.ttl = {LIFETIME_NOT_FOUND}s;
        }
        # Used only when the store fails: see vcl_recv.
        set beresp.grace = {STALE}s;
        # Beyond it an entry is good for a conditional request.
        set beresp.keep = 24h;
        return (deliver);
    }
    # A failure that is delivered as it came would take the place of what is stored.
    if (beresp.status == 429 || beresp.status >= 500) {
        return (error(beresp.status, beresp.reason));
    }
    # Anything else is not stored, not even for the default grace.
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    return (deliver);
}

sub vcl_deliver {
    if ((resp.status == 429 || resp.status >= 500) && req.restarts == 0 && (req.method == "GET" || req.method == "HEAD")) {
        return (restart);
    }
    set resp.http.Cache-Status = req.http.X-Status;
    unset resp.http.X-Path;
}

sub vcl_backend_error {
    # Not stored, not even for the default grace.
    if (beresp.status == 429) {
        set beresp.http.retry-after-ms = "1000";
    }
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    return (deliver);
}
