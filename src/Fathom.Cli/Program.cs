System.Console.WriteLine("fathom");
