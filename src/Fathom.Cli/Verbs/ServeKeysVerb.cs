// The books of a server: keys are made and revoked while it runs, because both go through the same file.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom serve keys</c>.</summary>
internal static class ServeKeysVerb
{
    public static Command Create()
    {
        var file = new Option<string>("--keys") { Description = "The file that the server has as --keys; it is made where it is missing.", HelpName = "FILE", Required = true };
        return new Command("keys", "Make, list and revoke the keys of a server.") { Add(file), List(file), Revoke(file), Balance(file) };
    }

    private static Command Add(Option<string> file)
    {
        var name = new Option<string>("--name") { Description = "Whose key it is.", HelpName = "NAME", Required = true };
        var requests = new Option<int?>("--requests-per-minute") { Description = "Most requests a minute.", HelpName = "N" };
        var tokens = new Option<int?>("--tokens-per-minute") { Description = "Most tokens a minute, of prompts and answers.", HelpName = "N" };
        var balance = new Option<decimal?>("--balance") { Description = "What may be spent, in the currency of the server's prices; anything if not given.", HelpName = "AMOUNT" };
        var command = new Command("add", "Make a key. It is shown once.") { file, name, requests, tokens, balance };
        command.SetAction(arguments =>
        {
            using var store = new KeyStore(arguments.GetRequiredValue(file));
            (string key, Account account) = store.Add(arguments.GetRequiredValue(name), arguments.GetValue(requests), arguments.GetValue(tokens), arguments.GetValue(balance));
            Console.WriteLine(key);
            Console.Error.WriteLine($"key {account.Id} of {account.Name}; it is not stored and cannot be shown again");
            return ExitCode.Success;
        });
        return command;
    }

    private static Command List(Option<string> file)
    {
        var command = new Command("list", "List keys and what they used.") { file };
        command.SetAction(arguments =>
        {
            using KeyStore store = Existing(arguments.GetRequiredValue(file));
            ILookup<string, UsageTotal> usage = store.Usage.ToLookup(u => u.KeyId);
            foreach (Account key in store.Keys)
            {
                string limits = string.Join(", ", new[]
                {
                    key.RequestsPerMinute is { } requests ? $"{requests} requests/min" : null,
                    key.TokensPerMinute is { } tokens ? $"{tokens} tokens/min" : null,
                    key.BalanceNano is { } nano ? Invariant($"balance {nano / 1e9m:F6}") : null,
                    key.Revoked is { } since ? Invariant($"revoked {since:yyyy-MM-dd}") : null,
                }.OfType<string>());
                Console.WriteLine(Invariant($"{key.Id}  {key.Name}  made {key.Created:yyyy-MM-dd}{(limits.Length > 0 ? ", " : "")}{limits}"));
                foreach (UsageTotal used in usage[key.Id])
                    Console.WriteLine(Invariant($"    {used.Model}: {used.Requests} requests, {used.HitTokens} + {used.MissTokens} prompt tokens (found + computed), {used.OutputTokens} generated, cost {used.CostNano / 1e9m:F6}"));
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static Command Revoke(Option<string> file)
    {
        var id = new Argument<string>("id") { Description = "The key's id, as 'keys list' shows it." };
        var command = new Command("revoke", "Take a key out of use, at once.") { file, id };
        command.SetAction(arguments =>
        {
            using KeyStore store = Existing(arguments.GetRequiredValue(file));
            string which = arguments.GetRequiredValue(id);
            if (!store.Revoke(which)) throw new FathomException($"there is no key {which} in use; 'keys list' shows those there are");
            Console.WriteLine($"key {which} is revoked");
            return ExitCode.Success;
        });
        return command;
    }

    private static Command Balance(Option<string> file)
    {
        var id = new Argument<string>("id") { Description = "The key's id, as 'keys list' shows it." };
        var amount = new Argument<decimal>("amount") { Description = "How much is added; negative to take away." };
        var command = new Command("pay", "Add to a key's balance.") { file, id, amount };
        command.SetAction(arguments =>
        {
            using KeyStore store = Existing(arguments.GetRequiredValue(file));
            string which = arguments.GetRequiredValue(id);
            if (!store.AddBalance(which, arguments.GetRequiredValue(amount))) throw new FathomException($"there is no key {which}; 'keys list' shows those there are");
            Console.WriteLine(Invariant($"key {which} has a balance of {store.Get(which)!.BalanceNano / 1e9m:F6}"));
            return ExitCode.Success;
        });
        return command;
    }

    private static KeyStore Existing(string path) =>
        File.Exists(path) ? new KeyStore(path) : throw new FathomException($"there is no key file {path}; 'keys add' makes it");
}
