// A server of its own over AddFathom and MapFathom: Kestrel with narrow limits and nothing that the routes do not need. Signals are the
// host's: SIGTERM and Ctrl-C drain.
using System.Net;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Pages;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace Fathom.Server;

/// <summary>Serves a model, training runs, or both over HTTP.</summary>
public sealed partial class FathomServer : IAsyncDisposable
{
    private readonly WebApplication app;

    private FathomServer(WebApplication app) => this.app = app;

    /// <summary>Where it listens, with the port that was chosen.</summary>
    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    /// <summary>Starts a server. It listens when this returns; /ready says when the model is warm.</summary>
    /// <param name="engine">The engine with its model; disposed by who made it.</param>
    /// <param name="options">How it is served.</param>
    /// <param name="logging">Changes the log; null for one line an event on the error stream.</param>
    /// <param name="cancellation">Ends the start.</param>
    /// <exception cref="FathomException">An option is not possible, or the address is in use.</exception>
    public static Task<FathomServer> StartAsync(
        InferenceEngine engine, FathomServerOptions options, Action<ILoggingBuilder>? logging = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(engine);
        return StartAsync(options, engine, logging, cancellation);
    }

    /// <summary>Starts a server that has no model and shows training runs alone: those of <see cref="FathomServerOptions.RunDirectories"/>.</summary>
    /// <param name="options">How it is served.</param>
    /// <param name="logging">Changes the log; null for one line an event on the error stream.</param>
    /// <param name="cancellation">Ends the start.</param>
    /// <exception cref="FathomException">An option is not possible, or the address is in use.</exception>
    public static Task<FathomServer> StartAsync(FathomServerOptions options, Action<ILoggingBuilder>? logging = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.RunDirectories.Count > 0
            ? StartAsync(options, null, logging, cancellation)
            : throw new FathomException("a server without a model shows training runs; give at least one directory of runs");
    }

    private static async Task<FathomServer> StartAsync(FathomServerOptions options, InferenceEngine? engine, Action<ILoggingBuilder>? logging, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(options);
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => Limit(kestrel, options));
        builder.Services.AddRoutingCore();
        if (engine is not null) builder.Services.AddFathom(engine, options);
        if (options.RunDirectories.Count > 0) builder.Services.AddFathomRuns(options.RunDirectories, options);
        builder.Logging.SetMinimumLevel(LogLevel.Information).AddFilter("Microsoft", LogLevel.Warning);
        if (logging is not null) logging(builder.Logging);
        else LogToErrorStream(builder.Logging);
        WebApplication app = builder.Build();
        app.Use(new BrowserGuard(options, app.Services.GetService<KeyStore>()).InvokeAsync);
        app.UseRouting();
        if (engine is not null) app.MapFathom();
        else app.MapHealth();
        if (options.RunDirectories.Count > 0) app.MapFathomRuns();
        app.MapFathomPages();
        try
        {
            await app.StartAsync(cancellation).ConfigureAwait(false);
        }
        catch (IOException error)
        {
            await app.DisposeAsync().ConfigureAwait(false);
            throw new FathomException($"cannot listen on {options.Host}:{options.Port}: {error.Message}", error);
        }

        var server = new FathomServer(app);
        server.Announce(options);
        return server;
    }

    /// <summary>Waits until the server was asked to stop and has drained.</summary>
    public Task WaitAsync(CancellationToken cancellation = default) => Microsoft.Extensions.Hosting.HostingAbstractionsHostExtensions.WaitForShutdownAsync(app, cancellation);

    /// <summary>Drains and stops: nothing new is taken, what runs is finished or cut at the deadline. Where a signal has done so already it does nothing.</summary>
    public Task StopAsync() => app.Lifetime.ApplicationStopped.IsCancellationRequested ? Task.CompletedTask : app.StopAsync();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await app.DisposeAsync().ConfigureAwait(false);
    }

    private static void LogToErrorStream(ILoggingBuilder logging)
    {
        logging.AddSimpleConsole(console => (console.SingleLine, console.TimestampFormat) = (true, "HH:mm:ss "));
        logging.Services.Configure<ConsoleLoggerOptions>(console => console.LogToStandardErrorThreshold = LogLevel.Trace);
    }

    private static void Limit(KestrelServerOptions kestrel, FathomServerOptions options)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = options.MaxBodyBytes;
        kestrel.Limits.MaxRequestHeaderCount = 64;
        kestrel.Limits.MaxRequestHeadersTotalSize = 16 * 1024;
        kestrel.Limits.MaxRequestLineSize = 4096;
        kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
        kestrel.Limits.MaxConcurrentConnections = 2L * options.MaxConcurrentRequests;
        if (options.Host == "localhost") kestrel.ListenLocalhost(options.Port);
        else kestrel.Listen(IPAddress.Parse(options.Host), options.Port);
    }

    private void Announce(FathomServerOptions options)
    {
        var log = app.Services.GetRequiredService<ILogger<FathomServer>>();
        bool keys = app.Services.GetService<KeyStore>() is { HasKeys: true };
        string needs = keys ? "a key is needed" : "no key is needed", what = options.RunDirectories.Count > 0 ? "training runs" : "";
        if (app.Services.GetService<ModelService>() is { } model)
        {
            LogListening(log, model.Name, Address, needs);
            if (what.Length > 0) LogListening(log, what, new Uri(Address, "dashboard"), needs);
        }
        else LogListening(log, what, Address, needs);
        if (!options.IsLoopback && !keys) LogOpen(log, options.Host);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Model} at {Address}; {Keys}")]
    private static partial void LogListening(ILogger log, string model, Uri address, string keys);

    [LoggerMessage(Level = LogLevel.Warning, Message = "listening on {Host} without keys: whoever reaches this machine can use it. Make keys with 'serve keys add', or listen on 127.0.0.1")]
    private static partial void LogOpen(ILogger log, string host);
}
