"""The controller of AIModel resources: a model is declared, and its topics and its nodes come to be."""
