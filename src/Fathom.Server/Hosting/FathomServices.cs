using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;
using Fathom.Server.Runs;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Fathom.Server;

/// <summary>Serves a model from within an application: <see cref="AddFathom(IServiceCollection, InferenceEngine, Action{FathomServerOptions})"/> here, and <see cref="FathomEndpoints.MapFathom"/> for its routes.</summary>
public static class FathomServices
{
    /// <summary>
    /// Adds what the routes need. With the application's end the engine is drained: what runs is finished, or cut at
    /// <see cref="FathomServerOptions.DrainDeadline"/>; allow the host that much time. The engine is disposed by who made it.
    /// </summary>
    /// <param name="services">Of the application.</param>
    /// <param name="engine">The engine with its model.</param>
    /// <param name="configure">Changes the options; null for the usual ones.</param>
    /// <exception cref="FathomException">An option is not possible; the message names it.</exception>
    public static IServiceCollection AddFathom(this IServiceCollection services, InferenceEngine engine, Action<FathomServerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(engine);
        var options = new FathomServerOptions();
        configure?.Invoke(options);
        return services.AddFathom(engine, options);
    }

    /// <summary>Adds what the routes need, with options that are there already.</summary>
    internal static IServiceCollection AddFathom(this IServiceCollection services, InferenceEngine engine, FathomServerOptions options)
    {
        services.AddPipeline(options);
        services.AddSingleton(engine);
        services.AddSingleton<ServerMetrics>();
        services.AddSingleton(provider => new PrometheusText(provider.GetRequiredService<ServerMetrics>().Meter, options.MetricsPrefix));
        services.AddSingleton<ModelService>();
        services.AddHostedService<EngineLifetime>();
        if (options.OtlpEndpoint is not null) services.AddHostedService<OtlpExport>();
        services.Configure<HostOptions>(host =>
        {
            TimeSpan needed = options.DrainDeadline + TimeSpan.FromSeconds(10);
            if (host.ShutdownTimeout < needed) host.ShutdownTimeout = needed;
        });
        return services;
    }

    /// <summary>Adds what <see cref="RunEndpoints.MapFathomRuns"/> needs: the run directories to show. With or without a model.</summary>
    /// <param name="services">Of the application.</param>
    /// <param name="directories">Each a run, or a directory that holds runs or folders of runs; those that are not there yet hold none.</param>
    /// <param name="options">Keys and limits, where <see cref="AddFathom(IServiceCollection, InferenceEngine, Action{FathomServerOptions})"/> has not brought its own.</param>
    /// <exception cref="FathomException">An option is not possible; the message names it.</exception>
    public static IServiceCollection AddFathomRuns(this IServiceCollection services, IEnumerable<string> directories, FathomServerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(directories);
        if (services.All(s => s.ServiceType != typeof(FathomServerOptions))) services.AddPipeline(options ?? new FathomServerOptions());
        string[] roots = [.. directories];
        services.AddSingleton(_ => new RunCatalog(roots, TimeProvider.System));
        return services;
    }

    /// <summary>Adds what every route runs in.</summary>
    private static void AddPipeline(this IServiceCollection services, FathomServerOptions options)
    {
        options.Validate();
        services.AddSingleton(options);
        services.AddSingleton<ServingState>();
        services.AddSingleton(new RateLimits(TimeProvider.System));
        if (options.KeysFile is { } file) services.AddSingleton(_ => new KeyStore(file));
        services.AddSingleton<RequestPipeline>();
        services.AddLogging();
    }
}
