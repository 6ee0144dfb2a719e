from mlops_env.cli import main

main()
