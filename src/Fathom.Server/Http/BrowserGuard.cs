// Keeps web pages of strangers from a server that trusts its own machine. A browser sends any page's requests to 127.0.0.1 too: with an
// Origin header where the page is another site's, and without one where the page's own name has been pointed at this machine (DNS rebinding),
// which the Host header gives away. Programs send neither, or the address they were given, and notice nothing. What holds is what Ollama's
// users know: pages of this machine may, others where they are allowed.
using System.Net;
using Fathom.Server.Accounts;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;

namespace Fathom.Server.Http;

/// <summary>Decides whether a request that a browser sent is let through, and tells the browser (CORS, WHATWG Fetch §3.2).</summary>
/// <param name="options">Which origins and hosts are let.</param>
/// <param name="keys">The keys: a stranger's page does not know them, so that the Host header need not be right. Null for none.</param>
internal sealed class BrowserGuard(FathomServerOptions options, KeyStore? keys)
{
    private const string PreflightSeconds = "600";

    /// <summary>The middleware.</summary>
    public async Task InvokeAsync(HttpContext http, RequestDelegate next)
    {
        HttpRequest request = http.Request;
        if (options.IsLoopback && keys is not { HasKeys: true } && !IsOwnName(request.Host.Host))
        {
            await RefuseAsync(http, "host_not_allowed", $"this server does not answer to the name '{Short(request.Host.Host)}'; allow it with --allow-host, or make keys").ConfigureAwait(false);
            return;
        }

        if (request.Headers.Origin is not [{ } origin])
        {
            await next(http).ConfigureAwait(false);
            return;
        }

        if (!IsAllowed(origin, request))
        {
            await RefuseAsync(http, "origin_not_allowed", $"pages of '{Short(origin)}' may not use this server; allow them with --allow-origin").ConfigureAwait(false);
            return;
        }

        IHeaderDictionary reply = http.Response.Headers;
        reply.AccessControlAllowOrigin = origin;
        reply.Vary = "Origin";
        reply.AccessControlExposeHeaders = "x-request-id, Retry-After";
        if (!HttpMethods.IsOptions(request.Method) || StringValues.IsNullOrEmpty(request.Headers.AccessControlRequestMethod))
        {
            await next(http).ConfigureAwait(false);
            return;
        }

        reply.AccessControlAllowMethods = "GET, POST";
        reply.AccessControlAllowHeaders = request.Headers.AccessControlRequestHeaders;
        reply.AccessControlMaxAge = PreflightSeconds;
        if (request.Headers["Access-Control-Request-Private-Network"] == "true") reply["Access-Control-Allow-Private-Network"] = "true";
        http.Response.StatusCode = StatusCodes.Status204NoContent;
    }

    private bool IsAllowed(string origin, HttpRequest request)
    {
        if (options.AllowedOrigins.Contains("*") || options.AllowedOrigins.Contains(origin, StringComparer.OrdinalIgnoreCase)) return true;
        // "null" is the origin of sandboxed frames and of files, which anybody can make.
        if (!Uri.TryCreate(origin, UriKind.Absolute, out Uri? url) || url.Scheme is not ("http" or "https")) return false;
        // The server's own pages, whose scheme may be that of a proxy before it.
        return IsLocal(url.Host) || string.Equals(url.Authority, request.Host.Value, StringComparison.OrdinalIgnoreCase);
    }

    private bool IsOwnName(string host) =>
        IsLocal(host) || IPAddress.TryParse(host, out _) || options.AllowedHosts.Contains("*") || options.AllowedHosts.Contains(host, StringComparer.OrdinalIgnoreCase);

    /// <summary>localhost, names below it (RFC 6761 §6.3), or a loopback address.</summary>
    private static bool IsLocal(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || host.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase)
        || IPAddress.TryParse(host, out IPAddress? address) && IPAddress.IsLoopback(address);

    private static string Short(string name) => name.Length <= 80 ? name : name[..80];

    private static Task RefuseAsync(HttpContext http, string code, string message)
    {
        ApiException error = ApiException.Forbidden(code, message);
        return JsonReply.SendAsync(http, error.Status, json => OpenAI.ErrorBody.Write(json, error));
    }
}
