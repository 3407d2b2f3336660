// The web pages, from the assembly itself: nothing is installed beside the binary and nothing is fetched from elsewhere. The set of paths is
// fixed when the routes are mapped, so there is no path to play tricks with: what is not a name in the table is not a route.
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using Fathom.Inference;
using Fathom.Server.Runs;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Net.Http.Headers;

namespace Fathom.Server.Pages;

/// <summary>Maps the web pages that are built into the server.</summary>
public static class FathomPages
{
    private const string Prefix = "pages/", Start = "index.html", Dashboard = "dashboard.html", Libraries = "vendor/";
    private static readonly string[] Methods = ["GET", "HEAD"];

    /// <summary>
    /// What pages may do (Content Security Policy 3): load from this server alone, run no script that stands in the page, and turn no text into
    /// HTML but through the sanitiser. A model's answer that slips through everything else can still fetch nothing.
    /// </summary>
    public const string ContentSecurityPolicy =
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify";

    /// <summary>
    /// Maps the chat page to "/" where there is a model, the dashboard to "/dashboard" where runs are shown (to "/" too where there is no model),
    /// and what they load to "/pages/…". The pages need no key: they hold nothing but themselves, and ask for a key where the API wants one.
    /// </summary>
    /// <param name="endpoints">Of the application, or a group of it in which <see cref="FathomEndpoints.MapFathom"/> or <see cref="RunEndpoints.MapFathomRuns"/> was mapped too.</param>
    public static IEndpointRouteBuilder MapFathomPages(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        bool chats = endpoints.ServiceProvider.GetService<InferenceEngine>() is not null, shows = endpoints.ServiceProvider.GetService<RunCatalog>() is not null;
        Assembly assembly = typeof(FathomPages).Assembly;
        foreach (string resource in assembly.GetManifestResourceNames())
        {
            string name = resource.Replace('\\', '/');
            if (!name.StartsWith(Prefix, StringComparison.Ordinal)) continue;
            using Stream stream = assembly.GetManifestResourceStream(resource)!;
            var bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            if (shows && name == Prefix + Start) bytes = WithDashboard(bytes);
            var page = new Page(name[Prefix.Length..], bytes);
            foreach (string path in PathsOf(name, chats, shows)) endpoints.MapMethods(path, Methods, page.SendAsync);
        }

        return endpoints;
    }

    /// <summary>The chat page with its way to the dashboard, which is hidden in the file.</summary>
    private static byte[] WithDashboard(byte[] page)
    {
        const string Hidden = "href=\"dashboard\" hidden";
        string text = Encoding.UTF8.GetString(page);
        if (!text.Contains(Hidden, StringComparison.Ordinal)) throw new InvalidOperationException($"{Start} has no link with {Hidden}");
        return Encoding.UTF8.GetBytes(text.Replace(Hidden, "href=\"dashboard\"", StringComparison.Ordinal));
    }

    private static string[] PathsOf(string name, bool chats, bool shows) => name switch
    {
        Prefix + Start => chats ? ["/"] : [],
        Prefix + Dashboard => !shows ? [] : chats ? ["/dashboard"] : ["/", "/dashboard"],
        _ => ["/" + name],
    };

    /// <summary>One file with its headers.</summary>
    private sealed class Page(string name, byte[] bytes)
    {
        private readonly EntityTagHeaderValue tag = new($"\"{Convert.ToHexStringLower(SHA256.HashData(bytes), 0, 16)}\"");
        private readonly string type = ContentType(name);

        // A library's folder carries its version, so its files never change; the rest is asked for again and costs a 304.
        private readonly string caching = name.StartsWith(Libraries, StringComparison.Ordinal) ? "public, max-age=31536000, immutable" : "no-cache";

        public async Task SendAsync(HttpContext http)
        {
            HttpResponse response = http.Response;
            response.Headers.ETag = tag.ToString();
            response.Headers.CacheControl = caching;
            response.Headers.XContentTypeOptions = "nosniff";
            response.Headers.ContentSecurityPolicy = ContentSecurityPolicy;
            response.Headers["Referrer-Policy"] = "no-referrer";
            response.Headers["Cross-Origin-Opener-Policy"] = "same-origin";
            response.Headers["Cross-Origin-Resource-Policy"] = "same-origin";
            if (Knows(http.Request))
            {
                response.StatusCode = StatusCodes.Status304NotModified;
                return;
            }

            response.ContentType = type;
            response.ContentLength = bytes.Length;
            if (HttpMethods.IsGet(http.Request.Method)) await response.BodyWriter.WriteAsync(bytes, http.RequestAborted).ConfigureAwait(false);
        }

        /// <summary>Whether the browser holds this very file (RFC 9110 §13.1.2: compared weakly, "*" stands for any).</summary>
        private bool Knows(HttpRequest request)
        {
            foreach (EntityTagHeaderValue known in request.GetTypedHeaders().IfNoneMatch)
            {
                if (known.Tag == "*" || known.Compare(tag, useStrongComparison: false)) return true;
            }

            return false;
        }

        private static string ContentType(string name) => Path.GetExtension(name) switch
        {
            ".html" => "text/html; charset=utf-8",
            ".css" => "text/css; charset=utf-8",
            ".js" => "text/javascript; charset=utf-8",
            ".svg" => "image/svg+xml",
            ".woff2" => "font/woff2",
            _ => "text/plain; charset=utf-8", // licences
        };
    }
}
