// The routes of runs: which there are, their series in as many points as a screen shows, and the loads of their experts. A page that follows
// a run asks again with the cursor of the last answer and gets what is new; a cursor that no longer holds gets everything.
using System.Globalization;
using Fathom.Inference;
using Fathom.Server.Http;
using Fathom.Server.OpenAI;
using Fathom.Server.Runs;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Fathom.Server;

/// <summary>Maps the routes of training runs.</summary>
public static class RunEndpoints
{
    private const int UsualPoints = 1000, MostPoints = 2000, UsualTimes = 200, MostTimes = 1000, MostSteps = 500;

    /// <summary>Bytes of metrics that one request reads at most, so that a gigabyte of them is read in pieces and nobody waits long.</summary>
    private const long Budget = 96 << 20, BudgetOfRun = 32 << 20;

    /// <summary>
    /// Maps /runs, /runs/{id}/metrics and /runs/{id}/experts into an application to which
    /// <see cref="FathomServices.AddFathomRuns(IServiceCollection, IEnumerable{string}, FathomServerOptions?)"/> was applied. They need a key once there is one.
    /// </summary>
    /// <param name="endpoints">Of the application, or a group of it.</param>
    public static IEndpointRouteBuilder MapFathomRuns(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        IServiceProvider services = endpoints.ServiceProvider;
        var catalog = services.GetRequiredService<RunCatalog>();
        var pipeline = services.GetRequiredService<RequestPipeline>();
        bool chats = services.GetService<InferenceEngine>() is not null;
        Get("/runs", scope => JsonReply.SendAsync(scope.Http, 200, json =>
        {
            long budget = Budget;
            json.WriteStartObject();
            json.WriteBoolean("chat", chats);
            json.WriteStartArray("runs");
            foreach (RunCatalog.Run run in catalog.Runs)
            {
                // One long run should not keep the others waiting.
                long own = Math.Min(budget, BudgetOfRun), left = own;
                RunBodies.WriteRun(json, run, StateOf(run, ref left));
                budget -= own - left;
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }));
        Get("/runs/{id}/metrics", scope =>
        {
            RunCatalog.Run run = Find(catalog, scope);
            long from = Number(scope, "from", 0, long.MaxValue) ?? 0, to = Number(scope, "to", 0, long.MaxValue) ?? long.MaxValue;
            int points = (int)(Number(scope, "points", 16, MostPoints) ?? UsualPoints);
            string? cursor = scope.Http.Request.Query["after"];
            long budget = Budget;
            long last = RequireState(run, ref budget).Step;
            return JsonReply.SendAsync(scope.Http, 200, json => run.Reader.Read(from, Math.Min(to, last), points, cursor, range =>
            {
                RunBodies.WriteMetrics(json, run.Id, range);
                return true;
            }));
        });
        Get("/runs/{id}/experts", scope =>
        {
            RunCatalog.Run run = Find(catalog, scope);
            long? step = Number(scope, "step", 0, long.MaxValue), layer = Number(scope, "layer", 0, int.MaxValue);
            int times = (int)(Number(scope, "points", 1, MostTimes) ?? UsualTimes);
            long budget = Budget;
            RequireState(run, ref budget);
            if (layer is { } number)
            {
                var loads = run.Reader.ReadLayer((int)number, times);
                return JsonReply.SendAsync(scope.Http, 200, json => RunBodies.WriteLayer(json, run.Id, (int)number, loads));
            }

            (ExpertSnapshot? snapshot, IReadOnlyList<long> steps) = run.Reader.ReadExperts(step, MostSteps);
            return JsonReply.SendAsync(scope.Http, 200, json => RunBodies.WriteExperts(json, run.Id, snapshot, steps));
        });
        return endpoints;

        void Get(string path, Func<Hosting.RequestScope, Task> handler) => endpoints.MapGet(path, pipeline.Wrap(RouteNeeds.Key, ErrorBody.Shape, handler));
    }

    private static RunCatalog.Run Find(RunCatalog catalog, Hosting.RequestScope scope) => catalog.Find((string?)scope.Http.Request.RouteValues["id"])
        ?? throw new ApiException(404, ApiException.InvalidRequest, "run_not_found", "there is no such run here; GET /runs lists them", "id");

    /// <summary>Reads what is new of a run; null where its file cannot be read.</summary>
    private static RunState? StateOf(RunCatalog.Run run, ref long budget)
    {
        try
        {
            return run.Reader.Advance(ref budget);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static RunState RequireState(RunCatalog.Run run, ref long budget) => StateOf(run, ref budget)
        ?? throw new ApiException(503, "server_error", "run_unreadable", "the metrics of this run cannot be read now") { RetryAfter = 5 };

    private static long? Number(Hosting.RequestScope scope, string name, long least, long most)
    {
        if (scope.Http.Request.Query[name] is not [{ Length: > 0 } text]) return null;
        if (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number)) throw ApiException.Format($"{name} is not a whole number", name);
        return number >= least && number <= most ? number : throw ApiException.Value($"{name} is {number}; it is {least} to {most}", name);
    }
}
